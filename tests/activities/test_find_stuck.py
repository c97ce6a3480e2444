"""Stuck workflows on a real Temporal service and a real API server: found, reported, and well again."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from temporalio import workflow
from temporalio.api.workflowservice.v1 import DescribeNamespaceResponse
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.signatures import FoundStuck, SweepRequest, TellStuck
from activities.temporal import stuck as module
from activities.temporal.stuck import StuckActivities
from api import names
from api.search_attributes import JOB, NAMESPACE
from api.sweep import Stuck
from clients.kube import path
from clients.search_attributes import ensure, typed
from sandbox.binaries import Binaries
from tests.activities.world import World, eventually, run
from tests.temporal_service import own_service

QUEUE = "stuck"
AT = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = SweepRequest(cluster_id="c")
AT_ONCE = ["--dynamic-config-value", "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute=1"]
NEVER = ["--dynamic-config-value", "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute=0"]
broken = True


class Buggy:
    """A release with a bug: each task raises while ``broken``."""

    async def run(self) -> None:
        if broken:
            raise RuntimeError("a bug of ours")
        await workflow.wait_condition(lambda: False)


@workflow.defn(name=names.JOB_WORKFLOW)
class BuggyJob(Buggy):
    @workflow.run
    async def run(self) -> None:
        await super().run()


@workflow.defn(name=names.VM_WORKFLOW)
class BuggyVm(Buggy):
    @workflow.run
    async def run(self) -> None:
        await super().run()


@contextlib.asynccontextmanager
async def service(executables: Binaries, extra: list[str]) -> AsyncIterator[Client]:
    """Start a service of its own that marks a workflow after its first failed task, or never."""
    async with own_service(executables, *extra) as client:
        await ensure(client)
        yield client


@pytest.fixture
async def client(executables: Binaries) -> AsyncIterator[Client]:
    async with service(executables, AT_ONCE) as made:
        yield made


@contextlib.asynccontextmanager
async def worker(client: Client, monkeypatch: pytest.MonkeyPatch, *, works: bool) -> AsyncIterator[None]:
    monkeypatch.setitem(globals(), "broken", not works)
    # Nothing is cached, so that the release that works takes over at once.
    options = {"workflow_runner": UnsandboxedWorkflowRunner(), "max_cached_workflows": 0}
    async with Worker(client, task_queue=QUEUE, workflows=[BuggyJob, BuggyVm], **options):  # type: ignore[arg-type]
        yield


async def start_job(client: Client, world: World) -> WorkflowHandle[None, None]:
    workflow_id = names.job_workflow_id(world.job.namespace, world.job.name)
    return await client.start_workflow(names.JOB_WORKFLOW, id=workflow_id, task_queue=QUEUE)


async def found(activities: StuckActivities, count: int) -> FoundStuck:
    async def so_many() -> FoundStuck | None:
        looked = await run(activities.find_stuck, REQUEST)
        return looked if len(looked.workflows) == count else None

    return await eventually(f"{count} stuck workflows are found", so_many)


async def told(world: World) -> list[tuple[str, str, str]]:
    """List (type, reason, note) of the job's Events, as `kubectl describe` shows them."""
    events = await world.kube.list(path("v1", "events", world.job.namespace))
    ours = [each for each in events if each["involvedObject"].get("uid") == world.job.uid]
    return [(each["type"], each["reason"], each["message"]) for each in ours]


async def test_a_job_whose_task_fails_is_found_and_its_owner_told(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    activities = StuckActivities(client, world.kube)
    assert (await run(activities.find_stuck, REQUEST)).workflows == []
    handle = await start_job(client, world)
    async with worker(client, monkeypatch, works=False):
        looked = await found(activities, 1)
    (stuck,) = looked.workflows
    assert stuck == Stuck(
        workflow_id=handle.id, workflow_type="SpotInstanceJob", namespace=world.job.namespace, job_name=world.job.name,
        problem="WorkflowTaskFailed: WorkflowWorkerUnhandledFailure",
    )  # fmt: skip
    assert looked.counts == {"SpotInstanceJob": 1, "SpotVM": 0, "SpotMarket": 0, "Sweep": 0}
    for _ in range(2):  # the retry finds what the first attempt made
        await run(activities.tell_stuck, TellStuck(stuck=[stuck], at=AT))
    ((kind, reason, note),) = await told(world)
    assert (kind, reason) == ("Warning", "WorkflowStuck")
    assert note.startswith("nobody acts for this job: its workflow's task fails again and again (WorkflowTaskFailed")

    async with worker(client, monkeypatch, works=True):
        await found(activities, 0)
    await run(activities.tell_stuck, TellStuck(well_again=[stuck], at=AT))
    assert ("Normal", "WorkflowRecovered", "the workflow of this job continues") in await told(world)


async def test_the_owner_of_a_vm_that_nobody_looks_after_is_told(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {NAMESPACE: world.job.namespace, JOB: world.job.name}
    await client.start_workflow(
        names.VM_WORKFLOW, id="vm:0a1b2c3d-r0-v1", task_queue=QUEUE, search_attributes=typed({**values})
    )
    activities = StuckActivities(client, world.kube)
    async with worker(client, monkeypatch, works=False):
        looked = await found(activities, 1)
    await run(activities.tell_stuck, TellStuck(stuck=looked.workflows, at=AT))
    ((_, _, note),) = await told(world)
    assert note.startswith("nobody acts for its VM (vm:0a1b2c3d-r0-v1)")


async def test_one_that_was_terminated_or_is_still_stuck_is_not_called_well(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await start_job(client, world)
    activities = StuckActivities(client, world.kube)
    async with worker(client, monkeypatch, works=False):
        looked = await found(activities, 1)
    again = TellStuck(well_again=looked.workflows, at=AT)
    await run(activities.tell_stuck, again)
    await handle.terminate()
    await run(activities.tell_stuck, again)
    assert await told(world) == []


async def test_of_more_than_fit_the_rest_is_counted(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_MOST", 1)
    await start_job(client, world)
    await client.start_workflow(names.VM_WORKFLOW, id="vm:1", task_queue=QUEUE)
    activities = StuckActivities(client, world.kube)

    async def both() -> FoundStuck | None:
        looked = await run(activities.find_stuck, REQUEST)
        return looked if sum(looked.counts.values()) == 2 else None

    async with worker(client, monkeypatch, works=False):
        looked = await eventually("both are counted", both)
    assert [each.workflow_type for each in looked.workflows] == ["SpotInstanceJob"]


async def test_a_service_that_does_not_mark_them_is_named(executables: Binaries, world: World) -> None:
    async with service(executables, NEVER) as client:
        looked = await run(StuckActivities(client, world.kube).find_stuck, REQUEST)
    assert looked.blind is not None
    assert "server 1.30 or later" in looked.blind


async def test_an_older_service_that_knows_no_capabilities_does_not_mark_them(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def older(*_: object, **__: object) -> DescribeNamespaceResponse:
        return DescribeNamespaceResponse()

    monkeypatch.setattr(client.workflow_service, "describe_namespace", older)
    assert (await run(StuckActivities(client, world.kube).find_stuck, REQUEST)).blind is not None


async def test_nothing_is_told_of_a_job_that_is_gone(client: Client, world: World) -> None:
    gone = Stuck(workflow_id="x/y", workflow_type="SpotInstanceJob", problem="p", namespace="x", job_name="y")
    await run(StuckActivities(client, world.kube).tell_stuck, TellStuck(stuck=[gone], well_again=[gone], at=AT))
