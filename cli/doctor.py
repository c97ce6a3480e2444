"""``outlast doctor``: whether an installation is whole, a line for each part, with what to do.

What it may not read, it says. Temporal is asked if ``TEMPORAL_ADDRESS`` is set, as for the ``temporal`` CLI.
"""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from rich.table import Table
from rich.text import Text
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from api import names
from api.projections import node_view
from cli.session import Cluster, console
from clients import search_attributes, temporal
from clients.kube import KubeError, path
from clients.settings import connections

PATIENCE = 10.0
"""Seconds in which Temporal has to answer."""


@dataclass(frozen=True)
class Finding:
    """What was found of one part."""

    part: str
    well: bool
    told: str
    remedy: str = ""


Check = Callable[[Cluster, str], AsyncIterator[Finding]]


async def look(cluster: Cluster, system: str) -> list[Finding]:
    """Check all parts. ``system`` is the namespace in which Outlast is installed."""
    found: list[Finding] = []
    for check in (_definitions, _programs, _agent, _settings, _nodes, _temporal):
        try:
            found += [finding async for finding in check(cluster, system)]
        except KubeError as error:
            found.append(Finding(check.__name__.strip("_"), False, error.message, "ask an operator, or for the right"))
    return found


def show(findings: list[Finding]) -> None:
    """Print the findings."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        mark = Text("✓", style="green") if finding.well else Text("✗", style="red")
        remedy = f"\n→ {finding.remedy}" if finding.remedy and not finding.well else ""
        shown.add_row(mark, finding.part, Text.assemble(finding.told, (remedy, "dim")))
    console.print(shown)


async def _definitions(cluster: Cluster, _: str) -> AsyncIterator[Finding]:
    ours = [f"{plural}.{names.GROUP}" for plural in (names.JOB_PLURAL, names.VM_PLURAL, names.TEMPLATE_PLURAL)]
    theirs = f"{names.CHECKPOINT_PLURAL}.{names.CHECKPOINT_GROUP}"
    for name in (*ours, theirs):
        found = await cluster.kube.find(path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=name))
        remedy = (
            "install the checkpoint operator; without it only mode Application works"
            if name == theirs
            else "kubectl apply --server-side -k deploy/base"
        )
        yield Finding(f"CRD {name}", found is not None, "is there" if found else "is missing", remedy)


async def _programs(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    """Check the worker of the newest release, the bridge, and that nothing waits for the setup."""
    deployments = await cluster.kube.list(path("apps/v1", "deployments", system))
    for component in ("worker", "bridge"):
        mine = [each for each in deployments if each["metadata"]["name"].startswith(f"outlast-{component}")]
        if not mine:
            yield Finding(
                component,
                False,
                f"there is no Deployment of it in {system}",
                "install it, or name its namespace by --system",
            )
        for each in mine:
            status, wanted = each.get("status") or {}, each["spec"].get("replicas", 1)
            ready = status.get("readyReplicas", 0)
            remedy = f"kubectl -n {system} describe pods, and their logs"
            yield Finding(
                f"{component} {each['metadata']['name']}", ready >= wanted, f"{ready} of {wanted} ready", remedy
            )
    for job in await cluster.kube.list(path("batch/v1", "jobs", system)):
        if job["metadata"]["name"].startswith("outlast-setup"):
            done = (job.get("status") or {}).get("succeeded", 0) > 0
            remedy = f"kubectl -n {system} logs job/{job['metadata']['name']} says what it waits for"
            yield Finding(
                f"setup {job['metadata']['name']}", done, "has given the worker work" if done else "is not done", remedy
            )


async def _agent(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    found = await cluster.kube.find(path("apps/v1", "daemonsets", system, "outlast-agent"))
    if found is None:
        yield Finding(
            "node agent",
            False,
            f"there is no DaemonSet outlast-agent in {system}",
            "preemptions are seen late: install it",
        )
        return
    status = found.get("status") or {}
    ready, wanted = status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
    yield Finding("node agent", ready >= wanted, f"{ready} of {wanted} ready", f"kubectl -n {system} get pods -o wide")


async def _settings(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    found = await cluster.kube.find(path("v1", "configmaps", system, "outlast-settings"))
    address = ((found or {}).get("data") or {}).get("TEMPORAL_ADDRESS")
    remedy = "write TEMPORAL_ADDRESS into deploy/base/settings.yaml"
    yield Finding(
        "settings", address is not None, f"Temporal is at {address}" if address else "say nothing of Temporal", remedy
    )
    try:
        key = await cluster.kube.find(path("v1", "secrets", system, "outlast-ssh"))
    except KubeError as error:
        if error.status != 403:
            raise
        yield Finding("SSH key", True, "may not be looked at")
        return
    remedy = "ssh-keygen, then kubectl create secret generic outlast-ssh: see README, Install it"
    yield Finding("SSH key", key is not None, "is there" if key else "is missing: VMs cannot be joined", remedy)


async def _nodes(cluster: Cluster, _: str) -> AsyncIterator[Finding]:
    offering = 0
    async for node in cluster.kube.each(path("v1", "nodes")):
        offering += node_view(node).gpus > 0
    told = f"{offering} Nodes offer {names.GPU_RESOURCE}"
    yield Finding("GPUs", True, told + ("" if offering else ": all machines will be bought"))


async def _temporal(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    if "TEMPORAL_ADDRESS" not in os.environ:
        yield Finding("Temporal", True, "not asked: set TEMPORAL_ADDRESS as for the temporal CLI")
        return
    settings = connections({**os.environ, "OUTLAST_CONNECT_DEADLINE": str(PATIENCE)})
    try:
        client = await temporal.connect(settings, temporal.runtime(settings))
    except (ConnectionError, aiohttp.ClientError) as error:
        yield Finding("Temporal", False, str(error), "check TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the network")
        return
    yield Finding("Temporal", True, f"answers at {settings.temporal_address}, namespace {settings.temporal_namespace}")
    async for finding in _namespace(client):
        yield finding


async def _namespace(client: Client) -> AsyncIterator[Finding]:
    try:
        lacking = await search_attributes.missing(client)
    except RPCError as error:
        yield Finding("search attributes", False, error.message, "the account may not list workflows")
        return
    told = f"are missing: {', '.join(each.name for each in lacking)}" if lacking else "are registered"
    remedy = "temporal operator search-attribute create, as docs/temporal-cli.md says"
    yield Finding("search attributes", not lacking, told, remedy)
    for queue in (names.TASK_QUEUE, names.LONG_QUEUE, names.CREATES_QUEUE):
        request = DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        pollers = len((await client.workflow_service.describe_task_queue(request)).pollers)
        yield Finding(
            f"task queue {queue}", pollers > 0, f"{pollers} workers poll it", "no worker runs, or none is current"
        )
