"""An upgrade as docs/upgrading.md describes it, on Temporal's real dev server: to a release with other steps, and back.

Jobs that train, look for machines and are suspended, their VMs and the market move, and nothing of them is lost.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowHistory
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from sandbox.binaries import Binaries
from tests.bridge.recorder import eventually
from tests.workflows.dev_server import TIMINGS, quick_estate
from tests.workflows.estate import Estate
from tests.workflows.next_release import NEXT
from tests.workflows.temporal_cli import Cli
from tests.workflows.versions import DEPLOYMENT, make_current, worker
from worker import setup
from worker.setup import ensure_current

OLD, NEW = "0.1.0", "0.2.0"
SECONDS = 240.0  # for each step; a market alone may take half a minute to move
DRAINED = {
    "matching.wv.VersionDrainageStatusVisibilityGracePeriod": '"1s"',
    "matching.wv.VersionDrainageStatusRefreshInterval": '"1s"',
}
"""The service waits minutes by default before it checks whether a version is drained."""


@pytest.fixture
async def estate(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Estate]:
    """Make three jobs, in which what is idle looks about every few seconds."""
    monkeypatch.setattr(setup, "EVERY", 0.2)
    async with quick_estate(executables, monkeypatch, 3, DRAINED) as made:
        for each in made.worlds:
            each.documents.timings = TIMINGS.model_copy(
                update={"resync": 3, "owner_check": 3, "preempted_poll": 0.2, "stockout_rest": 2}
            )
        yield made


@pytest.fixture
def cli(estate: Estate, executables: Binaries) -> Cli:
    """Make the Temporal CLI."""
    return Cli(executables.temporal, estate.env.client)


async def open_on(estate: Estate) -> dict[str, str]:
    """Map each open workflow's id to its version; empty if it has none."""
    found = {}
    async for each in estate.env.client.list_workflows("ExecutionStatus = 'Running'"):
        info = (await estate.env.client.get_workflow_handle(each.id).describe()).raw_description.workflow_execution_info
        if "temporal-sys" not in each.id:
            found[each.id] = str(info.versioning_info.deployment_version.build_id)
    return found


async def all_on(estate: Estate, build: str) -> set[str]:
    """Wait until all open workflows are on a version, and return their ids. The world goes on meanwhile."""
    end = asyncio.get_running_loop().time() + SECONDS
    while set((found := await open_on(estate)).values()) != {build}:
        assert asyncio.get_running_loop().time() < end, f"not all are on {build}: {found}"
        await estate.pass_time(0.5)
    return set(found)


async def failed_tasks(client: Client) -> list[str]:
    """List the failed workflow tasks, without those that a message overtook."""
    overtaken = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
    told = []
    async for each in client.list_workflows():
        history = await client.get_workflow_handle(each.id, run_id=each.run_id).fetch_history()
        for event in history.events:
            failed = event.workflow_task_failed_event_attributes
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED and failed.cause != overtaken:
                told.append(f"{each.id}: {failed.failure.message}")
    return told


async def replays_with_the_next_release(history: WorkflowHistory) -> bool:
    replayer = Replayer(
        workflows=NEXT, data_converter=pydantic_data_converter, workflow_runner=UnsandboxedWorkflowRunner()
    )
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    return result.replay_failure is None


async def drained(cli: Cli, build: str) -> None:
    """Wait until the service reports that nothing is left on a version."""
    where = ("--deployment-name", DEPLOYMENT, "--build-id", build)

    async def told() -> bool:
        return "drained" in (await cli.run("worker", "deployment", "describe-version", *where)).lower()

    await eventually(told, f"{build} is drained", deadline=SECONDS)


@pytest.mark.timeout(1200)
async def test_open_jobs_move_to_a_release_with_other_steps_and_back(estate: Estate, cli: Cli) -> None:
    training, suspended, seeking = estate.worlds
    client = estate.env.client
    async with worker(estate, OLD):
        await ensure_current(client, WorkerDeploymentVersion(DEPLOYMENT, OLD), deadline=SECONDS)
        await training.submit(replicas=2)
        await suspended.submit(replicas=1)
        await estate.until(lambda: (training.active, suspended.active) == (2, 1), SECONDS, "both jobs to train")
        await suspended.signal("suspend")
        await estate.until(lambda: suspended.phase(0) == "Suspended", SECONDS, "one to be suspended")
        for each in estate.worlds:
            each.cloud.exhausted = {"us-central1-a"}
        await seeking.submit(replicas=1)
        condition = lambda: (c := seeking.documents.condition("CapacityAvailable")) and c.status == "False"  # noqa: E731
        await estate.until(condition, SECONDS, "the third to find no machine")
        before = await open_on(estate)
        assert set(before.values()) == {OLD}
        assert len(before) >= 3 + 2 + 1, f"three jobs, at least two VMs and a market: {before}"
        machines = set(training.cloud.instances)

        history = await training.handle.fetch_history()
        assert not await replays_with_the_next_release(history), "the next release really is another"

        async with worker(estate, NEW, workflows=NEXT):
            await ensure_current(client, WorkerDeploymentVersion(DEPLOYMENT, NEW), deadline=SECONDS)
            assert await all_on(estate, NEW) == set(before)
            await drained(cli, OLD)
            assert (training.training(), training.active) == ([(0, 0), (1, 0)], 2), "nobody was disturbed"
            assert set(training.cloud.instances) == machines

            for each in estate.worlds:
                each.cloud.exhausted = set()
            await suspended.signal("resume")
            training.notice(0, seconds=2)
            await estate.until(
                lambda: (training.active, suspended.active, seeking.active) == (2, 1, 1)
                and training.entry(0).incarnation == 1,
                SECONDS, "all three to train on the next release",
            )  # fmt: skip

            await make_current(cli, OLD)
            await all_on(estate, OLD)
            await drained(cli, NEW)
        for each in estate.worlds:
            await each.delete()
        await estate.until(lambda: all(each.documents.released for each in estate.worlds), SECONDS, "all to be gone")
    assert await failed_tasks(client) == []
    assert [dict(each.cloud.instances) for each in estate.worlds] == [{}, {}, {}]
