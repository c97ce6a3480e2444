"""One workflow for each SpotInstanceJob object, once in its life: on a real API server and a real Temporal service."""

import asyncio
import json
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from api import names
from api.messages import JobStart
from crd_bridge.bridge import Bridge
from tests.bridge.proxy import proxied
from tests.bridge.recorder import eventually, heard

QUIET = 1.5  # seconds in which something that must not happen would have happened


async def running(client: Client, workflow_id: str) -> Any:
    """The description of the run under this id, once it is open."""

    async def look() -> Any:
        found = await client.get_workflow_handle(workflow_id).describe()
        return found if found.status == WorkflowExecutionStatus.RUNNING else None

    return await eventually(look, f"{workflow_id} runs")


async def read(control_plane: Any, namespace: str, name: str = "train") -> Any:
    return json.loads(await control_plane.kubectl("get", "sij", name, "-n", namespace, "-o", "json"))


async def runs(client: Client, workflow_id: str) -> int:
    """How many runs there were under this id."""

    async def count() -> int:
        return (await client.count_workflows(f"WorkflowId = '{workflow_id}'")).count

    return await count()


async def write_status(control_plane: Any, namespace: str, status: dict[str, Any]) -> None:
    await control_plane.kubectl(
        "patch", "sij", "train", "-n", namespace, "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": status}),
    )  # fmt: skip


def start_of(namespace: str, uid: str) -> JobStart:
    return JobStart(namespace=namespace, name="train", uid=uid, cluster_id="this-cluster", job_id="00000000")


async def begin(client: Client, namespace: str, uid: str) -> Any:
    """A run for an object with this uid, as a bridge would have started it."""
    return await client.start_workflow(
        names.JOB_WORKFLOW,
        start_of(namespace, uid),
        id=f"{namespace}/train",
        task_queue=names.TASK_QUEUE,
        memo={"uid": uid},
    )


async def test_a_new_job_gets_its_finalizer_and_its_workflow(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    async with bridge():
        await apply(job)
        found = await running(client, f"{namespace}/train")
    uid = (await read(control_plane, namespace))["metadata"]["uid"]
    assert (await read(control_plane, namespace))["metadata"]["finalizers"] == [names.FINALIZER]
    assert found.workflow_type == "SpotInstanceJob"
    assert found.task_queue == names.TASK_QUEUE
    assert (await found.memo())["uid"] == uid
    assert uid in await found.static_summary()
    history = await client.get_workflow_handle(f"{namespace}/train").fetch_history()
    given = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (start,) = await client.data_converter.decode(given, [JobStart])
    assert start == JobStart(
        namespace=namespace,
        name="train",
        uid=uid,
        cluster_id="this-cluster",
        job_id=names.job_id("this-cluster", uid),
    )


async def test_the_finalizer_of_others_stays(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    job["metadata"]["finalizers"] = ["example.com/mine"]
    async with bridge():
        await apply(job)
        await running(client, f"{namespace}/train")
    assert (await read(control_plane, namespace))["metadata"]["finalizers"] == ["example.com/mine", names.FINALIZER]


async def test_an_edit_is_told_once_and_a_status_not_at_all(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    async with bridge():
        await apply(job)
        await running(client, workflow_id)
        await control_plane.kubectl("scale", "sij", "train", "--replicas=3", "-n", namespace)
        await eventually(lambda: heard(client, workflow_id, "spec_changed"), "the edit is told")
        await write_status(control_plane, namespace, {"activeReplicas": 1})
        await asyncio.sleep(QUIET)
    told = await heard(client, workflow_id, "spec_changed")
    assert [message["generation"] for message in told] == [2]


async def test_an_edit_while_the_bridge_was_away_is_told(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    async with bridge():
        await apply(job)
        await running(client, workflow_id)
    await control_plane.kubectl("scale", "sij", "train", "--replicas=1", "-n", namespace)
    async with bridge():
        told = await eventually(lambda: heard(client, workflow_id, "spec_changed"), "the edit is told")
    assert told[-1]["generation"] == 2


async def test_a_finished_job_never_starts_again(
    namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    async with bridge():
        await apply(job)
        await running(client, workflow_id)
        await client.get_workflow_handle(workflow_id).signal("finish")
        await client.get_workflow_handle(workflow_id).result()
    async with bridge():
        job["spec"]["replicas"] = 1
        await apply(job)
        await asyncio.sleep(QUIET)
    assert await runs(client, workflow_id) == 1


@pytest.mark.parametrize("condition", ["Completed", "Failed"])
async def test_a_job_that_its_status_says_is_over_is_not_started(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client, condition: str
) -> None:
    await apply(job)
    await write_status(
        control_plane, namespace, {"conditions": [{"type": condition, "status": "True", "reason": "TrainingDone"}]}
    )
    async with bridge():
        await asyncio.sleep(QUIET)
    with pytest.raises(RPCError, match="not found"):
        await client.get_workflow_handle(f"{namespace}/train").describe()


async def test_a_job_created_again_starts_once_its_predecessor_has_ended(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    old = await begin(client, namespace, uid="an-earlier-object")
    async with bridge():
        await apply(job)
        await asyncio.sleep(QUIET)
        assert (await client.get_workflow_handle(workflow_id).describe()).run_id == old.result_run_id
        assert await heard(client, workflow_id, "spec_changed") == []
        await old.signal("finish")

        async def successor() -> Any:
            found = await client.get_workflow_handle(workflow_id).describe()
            return found if found.run_id != old.result_run_id else None

        found = await eventually(successor, "the new object's workflow starts")
    assert (await found.memo())["uid"] == (await read(control_plane, namespace))["metadata"]["uid"]


async def test_a_deletion_is_told_to_the_workflow(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    async with bridge():
        await apply(job)
        run = await running(client, workflow_id)
        uid = (await read(control_plane, namespace))["metadata"]["uid"]
        await control_plane.kubectl("delete", "sij", "train", "-n", namespace, "--wait=false")
        told = await eventually(lambda: heard(client, workflow_id, "shutdown"), "the deletion is told")
        # What its teardown writes into the object is no news to it.
        await write_status(control_plane, namespace, {"activeReplicas": 0})
        await asyncio.sleep(QUIET)
    assert [message["uid"] for message in told] == [uid]
    assert (await running(client, workflow_id)).run_id == run.run_id
    assert len(await heard(client, workflow_id, "shutdown")) == 1


async def test_a_deletion_finds_a_new_workflow_where_the_old_one_was_terminated(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    async with bridge():
        await apply(job)
        first = await running(client, workflow_id)
        await client.get_workflow_handle(workflow_id).terminate("by a person")
        await asyncio.sleep(QUIET)
        assert await runs(client, workflow_id) == 1
        await control_plane.kubectl("delete", "sij", "train", "-n", namespace, "--wait=false")
        await eventually(lambda: heard(client, workflow_id, "shutdown"), "the teardown is started")
    assert (await running(client, workflow_id)).run_id != first.run_id


async def test_a_deletion_without_our_finalizer_starts_nothing(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    job["metadata"]["finalizers"] = ["example.com/mine"]
    await apply(job)
    await control_plane.kubectl("delete", "sij", "train", "-n", namespace, "--wait=false")
    async with bridge():
        await asyncio.sleep(QUIET)
    with pytest.raises(RPCError, match="not found"):
        await client.get_workflow_handle(f"{namespace}/train").describe()


async def test_an_object_that_vanishes_by_force_ends_its_workflow(
    control_plane: Any, namespace: str, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    async with bridge():
        await apply(job)
        await running(client, workflow_id)
        patch = json.dumps({"metadata": {"finalizers": None}})
        await control_plane.kubectl("patch", "sij", "train", "-n", namespace, "--type=merge", "-p", patch)
        await control_plane.kubectl("delete", "sij", "train", "-n", namespace)
        told = await eventually(lambda: heard(client, workflow_id, "shutdown"), "the workflow is told")
    assert [message["reason"] for message in told] == ["Gone"]


async def test_an_edit_of_the_vm_is_told_to_the_jobs_that_name_it(
    namespace: str, apply: Any, job: Any, vm: Any, bridge: Any, client: Client
) -> None:
    workflow_id = f"{namespace}/train"
    await apply(vm)
    async with bridge():
        await apply(job)
        await running(client, workflow_id)
        vm["spec"]["gcp"]["machineType"] = "n1-standard-8"
        await apply(vm)
        told = await eventually(lambda: heard(client, workflow_id, "spec_changed"), "the edit is told")
    assert [(message["generation"], message["vmGeneration"]) for message in told] == [(1, 2)]


async def test_a_job_waits_until_temporal_is_back(
    namespace: str, apply: Any, job: Any, cluster: Any, recording: Client, temporal: Any
) -> None:
    async with proxied(temporal.address) as proxy:
        client = await Client.connect(proxy.address, data_converter=pydantic_data_converter)
        task = asyncio.create_task(Bridge(cluster, client, "this-cluster").run())
        await proxy.close()
        await apply(job)
        await asyncio.sleep(QUIET)
        await proxy.open()
        await running(recording, f"{namespace}/train")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
