"""The bridge may tell of a change before the activity that brought it about has answered: what is newer holds."""

from typing import Any

import pytest

from api.views import CheckpointView
from tests.workflows.checkpoints import Backup
from tests.workflows.world import World


def end_within_the_call(world: World, monkeypatch: pytest.MonkeyPatch, activity: str) -> None:
    """Each checkpoint ends, and the bridge tells so, while the activity is on its way back with what it saw before."""
    call = getattr(world.checkpoints, activity)

    def overtaken(request: Any) -> CheckpointView:
        view: CheckpointView = call(request)
        backup: Backup = world.checkpoints.backups[request.number]
        for phase in ("Checkpointing", "Completed"):
            world.checkpoints._go(backup, phase)
        return view

    monkeypatch.setattr(world.checkpoints, activity, overtaken)


async def test_a_checkpoint_that_ended_before_its_creation_was_answered(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    end_within_the_call(world, monkeypatch, "create_checkpoint")
    world.checkpoints.plans = ["ignored"]
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.signal("checkpoint_now")
        await world.until(lambda: world.documents.told("CheckpointCompleted"), within=10)


async def test_a_checkpoint_that_ended_while_it_was_looked_at(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    end_within_the_call(world, monkeypatch, "observe_checkpoint")
    world.checkpoints.plans = ["ignored"]
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.signal("checkpoint_now")
        await world.until(lambda: world.documents.told("CheckpointCompleted"), within=70)
        assert world.documents.told("CheckpointFailed") == []


async def test_a_pod_that_ended_while_it_was_looked_at(idle_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = idle_world
    call = world.cluster_calls.observe_replica

    def overtaken(ref: Any) -> Any:
        view = call(ref)
        job = world.cluster.jobs[ref.replica, ref.incarnation]
        if job.pod and job.pod.exit_code is None and world.active:
            world.cluster.end_pod(job, 0)
        return view

    monkeypatch.setattr(world.cluster_calls, "observe_replica", overtaken)
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.until(lambda: world.phase(0) == "Judging", within=310)  # the resync, and not the one after it
