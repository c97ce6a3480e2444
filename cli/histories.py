"""The histories of a job's workflows as Temporal stores them, for a support bundle."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError

from api import names
from api.spot_instance_job import SpotInstanceJobStatus
from cli.session import status_of
from cli.temporal import connected
from clients import temporal
from clients.kube import Json

RUNS = 3
"""The latest runs of each workflow, which continue each other."""
MOST = 50
"""Workflows that a bundle has."""
LARGEST = 16 * 2**20
"""Bytes of one run's history."""
TROUBLED = 'TemporalReportedProblems IN ("category=WorkflowTaskFailed", "category=WorkflowTaskTimedOut")'

Miss = Callable[[str, str], None]


async def read(job: Json | None, miss: Miss) -> AsyncIterator[tuple[str, Any]]:
    """Read the histories of a job and its VMs; without a job those of workflows that are stuck, of markets, of a sweep.

    Yields:
        For each run the name of its file, and its history in the form that ``temporal workflow show`` gives.
    """
    try:
        client = await connected()
        if client is None:
            miss("histories of workflows", "set TEMPORAL_ADDRESS as for the temporal CLI, and make the bundle again")
            return
        found = list(_of_job(job)) if job is not None else await _troubled(client)
    except (ConnectionError, RPCError) as error:
        miss("histories of workflows", str(error))
        return
    for workflow_id in found[:MOST]:
        try:
            async for file, history in _runs(client, workflow_id, miss):
                yield file, history
        except RPCError as error:
            miss(f"the history of {workflow_id}", str(error))


def machines_of(status: SpotInstanceJobStatus) -> set[str]:
    """List the Nodes and VMs on which a job's replicas are and were."""
    found = {past.node or "" for past in status.history}
    for entry in status.job_statuses:
        found |= {entry.node_name or "", entry.vm_name or ""}
        found |= {name or "" for each in entry.members or [] for name in (each.node_name, each.vm_name)}
    return found - {""}


def _of_job(job: Json) -> Iterator[str]:
    meta = job["metadata"]
    yield names.job_workflow_id(meta["namespace"], meta["name"])
    for key in sorted({key for name in machines_of(status_of(job)) if (key := names.vm_key_of(name))}):
        yield names.vm_workflow_id(key)


async def _troubled(client: Client) -> list[str]:
    """List the workflows that Temporal marks as stuck, the markets, and the last sweep."""
    found = []
    for query, most in ((TROUBLED, MOST), (f"WorkflowType='{names.MARKET_WORKFLOW}'", 5), ("WorkflowType='Sweep'", 1)):
        async for each in client.list_workflows(query, limit=most, rpc_timeout=temporal.RPC_TIMEOUT):
            found.append(each.id)
    return list(dict.fromkeys(found))


async def _runs(client: Client, workflow_id: str, miss: Miss) -> AsyncIterator[tuple[str, Any]]:
    run_id: str | None = None
    for number in range(RUNS):
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        described = await handle.describe(rpc_timeout=temporal.RPC_TIMEOUT)
        size = described.raw_description.workflow_execution_info.history_size_bytes
        if size > LARGEST:
            miss(f"the history of {workflow_id}", f"run {described.run_id} has {size >> 20} MiB")
            return
        history = await handle.fetch_history(rpc_timeout=temporal.RPC_TIMEOUT)
        yield f"{_file(workflow_id)}-{number}.json", json.loads(history.to_json())
        run_id = _before(history)
        if not run_id:
            return


def _before(history: WorkflowHistory) -> str:
    """Return the run that continued as this one; empty if there is none."""
    return history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id


def _file(workflow_id: str) -> str:
    """Make a file's name of a workflow's id.

    >>> _file("team/llm"), _file("vm:0123abcd-r0-v1")
    ('team-llm', 'vm-0123abcd-r0-v1')
    """
    return "".join(sign if sign.isalnum() or sign in "-._" else "-" for sign in workflow_id).lstrip(".")
