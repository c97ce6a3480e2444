"""Worker versioning on Temporal's real dev server: an old and a new worker side by side, and open work that moves.

A version is made current by the ``temporal`` CLI, as a person does it.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from api import names
from sandbox.binaries import Binaries
from tests.workflows.dev_server import TIMINGS, quick_world, vm_of
from tests.workflows.documents import VM_SPEC
from tests.workflows.temporal_cli import Cli
from tests.workflows.versions import DEPLOYMENT, is_on, make_current, version_of, worker
from tests.workflows.world import World

MARKET = names.market_workflow_id(VM_SPEC.gcp.project)


@pytest.fixture
async def real(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Make a quick world without a worker, in which what is idle looks about every few seconds."""
    async with quick_world(executables, monkeypatch) as made:
        made.documents.timings = TIMINGS.model_copy(update={"resync": 3, "owner_check": 3, "preempted_poll": 0.2})
        yield made


@pytest.fixture
def cli(real: World, executables: Binaries) -> Cli:
    """Make the Temporal CLI."""
    return Cli(executables.temporal, real.env.client)


def everything(real: World) -> list[WorkflowHandle[Any, Any]]:
    """Return the job, its first VM and the market of its project."""
    return [real.handle, vm_of(real), real.env.client.get_workflow_handle(MARKET)]


async def runs_of(handle: WorkflowHandle[Any, Any]) -> int:
    """Count the runs under a workflow's id.

    A move may take two: the partitions of a task queue hear of another current version one after the other, and a run
    whose first task comes from one that has not heard begins on the old version once more.
    """
    return (await handle._client.count_workflows(f"WorkflowId = '{handle.id}'")).count


async def test_open_work_moves_from_an_old_worker_to_a_new_one_and_back(real: World, cli: Cli) -> None:
    async with worker(real, "old"):
        await make_current(cli, "old")
        await real.submit(replicas=1)
        await real.running(1, within=60)
        assert [await version_of(handle) for handle in everything(real)] == ["old"] * 3
        async with worker(real, "new"):
            for number, build in enumerate(["new", "old"], 2):
                await make_current(cli, build)
                for handle in everything(real):
                    await is_on(handle, build)
                moved = [await runs_of(handle) for handle in everything(real)]
                assert all(number <= runs <= 2 * number for runs in moved), moved
                await real.pass_time(5)
                assert [await runs_of(handle) for handle in everything(real)] == moved, "each stays where it is"
                assert (real.training(), real.active) == ([(0, 0)], 1)


async def test_what_moved_ends_without_the_old_worker(real: World, cli: Cli) -> None:
    async with worker(real, "old"):
        await make_current(cli, "old")
        await real.submit(replicas=1)
        await real.running(1, within=60)
        await real.signal("checkpoint_now")
        await real.until(lambda: real.documents.told("CheckpointCompleted"), 60, "a checkpoint")
        async with worker(real, "new"):
            await make_current(cli, "new")
            for handle in everything(real):
                await is_on(handle, "new")
    async with worker(real, "new"):
        real.notice(0, seconds=2)
        await real.until(lambda: real.entry(0).incarnation == 1 and real.active == 1, 60, "replica 0 to be restored")
        await real.delete()
        assert await real.ended(within=60) == "Deleted"
        await real.nothing_left()


async def test_a_run_held_on_a_version_by_a_person_stays_there(real: World, cli: Cli) -> None:
    async with worker(real, "old"):
        await make_current(cli, "old")
        await real.submit(replicas=1)
        await real.running(1, within=60)
        await cli.run(
            "workflow", "update-options", "--workflow-id", real.handle.id, "--versioning-override-behavior", "pinned",
            "--versioning-override-deployment-name", DEPLOYMENT, "--versioning-override-build-id", "old",
        )  # fmt: skip
        async with worker(real, "new"):
            await make_current(cli, "new")
            await is_on(vm_of(real), "new")
            await real.pass_time(10)
            assert await version_of(real.handle) == "old"
            assert await runs_of(real.handle) <= 2


async def test_workflows_of_an_unversioned_worker_move_to_the_first_version(real: World, cli: Cli) -> None:
    async with real.worker():
        await real.submit(replicas=1)
        await real.running(1, within=60)
        assert [await version_of(handle) for handle in everything(real)] == [""] * 3
    async with worker(real, "first"):
        await make_current(cli, "first")
        for handle in everything(real):
            await is_on(handle, "first")
        await real.pass_time(5)
        assert (real.training(), real.active) == ([(0, 0)], 1)
        assert [await runs_of(handle) for handle in everything(real)] == [1] * 3
