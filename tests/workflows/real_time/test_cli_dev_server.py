"""What only the real server shows: ``temporal workflow reset`` of a job and of a VM, and two thousand signals."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.client import WorkflowHandle

from sandbox.binaries import Binaries
from tests.bridge.recorder import eventually
from tests.workflows.dev_server import TIMINGS, quick_world, vm_of
from tests.workflows.temporal_cli import Cli
from tests.workflows.world import World

SIGNALS = 2_000
WHERE = ("FirstWorkflowTask", "LastWorkflowTask")  # to where a run is reset


@pytest.fixture
async def real(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Make a quick world on a dev server of its own."""
    async with quick_world(executables, monkeypatch) as made:
        made.documents.timings = TIMINGS.model_copy(update={"resync": 3})
        async with made.worker():
            yield made


@pytest.fixture
def cli(real: World, executables: Binaries) -> Cli:
    """Make the Temporal CLI."""
    return Cli(executables.temporal, real.env.client)


async def reset(cli: Cli, handle: WorkflowHandle[object, object], where: str) -> None:
    """Reset a workflow to one of its tasks. The run that begins there is reset in its turn."""
    await cli.run("workflow", "reset", "--workflow-id", handle.id, "--type", where, "--reason", "by a person")


async def running_and_ended_well(real: World) -> None:
    """Check that one process trains, that a checkpoint can be made, and that nothing stays at the end."""
    await real.signal("checkpoint_now")
    checkpoints = len(real.documents.told("CheckpointCompleted"))
    await real.until(lambda: len(real.documents.told("CheckpointCompleted")) > checkpoints, 60, "a checkpoint")
    assert len(real.training()) == 1
    await real.delete()
    assert await real.ended(within=90) == "Deleted"
    await real.nothing_left()


async def test_a_job_that_was_reset_finds_what_it_has(real: World, cli: Cli) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    before = real.node_of(0)
    for where in WHERE:
        await reset(cli, real.handle, where)
        await real.pass_time(10)
        await real.until(lambda: real.active == 1, 60, "replica 0 Running again")
        assert (real.node_of(0), real.training()) == (before, [(0, 0)])
        assert len(real.cloud.created) == 1
    await running_and_ended_well(real)


async def test_a_job_that_was_reset_after_a_recovery_runs_one_process(real: World, cli: Cli) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    for incarnation in (1, 2):
        real.notice(0, seconds=1)
        await real.until(lambda n=incarnation: real.entry(0).incarnation == n and real.active == 1, 60, "recovery")  # type: ignore[misc]
    for where in WHERE:
        await reset(cli, real.handle, where)
        for _ in range(15):
            await real.pass_time(1)
            assert len(real.training()) <= 1
        await real.until(lambda: real.active == 1 and len(real.training()) == 1, 60, "replica 0 Running again")
        assert real.training()[0][1] >= 2
    await running_and_ended_well(real)


async def test_a_vm_that_was_reset_finds_its_machine(real: World, cli: Cli) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    for where in WHERE:
        await reset(cli, vm_of(real), where)
        await real.pass_time(10)
        assert real.training() == [(0, 0)]
        assert len(real.cloud.created) == 1
    real.notice(0, seconds=1)
    await real.until(lambda: real.entry(0).incarnation == 1 and real.active == 1, 90, "replica 0 to be restored")
    await running_and_ended_well(real)


async def test_two_thousand_signals_at_once_neither_fail_nor_stall_a_job(real: World) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    turns = asyncio.Semaphore(100)  # so many are under way, as from a person's loop of CLI calls or a storm of events

    async def send() -> None:
        async with turns:
            await real.handle.signal("checkpoint_now")

    await asyncio.gather(*(send() for _ in range(SIGNALS)))
    await real.until(lambda: real.documents.told("CheckpointCompleted"), 60, "a checkpoint")
    assert real.training() == [(0, 0)]

    async def answers() -> bool:
        status = await real.handle.query("status")
        return bool(status["activeReplicas"] == 1)

    await eventually(answers, "the job answers")
    real.notice(0, seconds=1)
    await real.until(lambda: real.entry(0).incarnation == 1 and real.active == 1, 60, "replica 0 to be restored")
    await real.delete()
    assert await real.ended(within=90) == "Deleted"
    await real.nothing_left()
