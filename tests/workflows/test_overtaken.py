"""The bridge may report a change before the activity that caused it has answered. The newer view counts."""

from datetime import datetime
from typing import Any

import pytest

from activities.signatures import ProgressReading, ReadProgress, ReplicaRef, StartReading
from api.views import CheckpointView
from sandbox.checkpoint_operator.traps import SILENT
from tests.workflows.checkpoints import Backup
from tests.workflows.world import World


def end_within_the_call(world: World, monkeypatch: pytest.MonkeyPatch, activity: str) -> None:
    """Let each checkpoint end, and the bridge report it, before the activity returns its older view."""
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
    world.checkpoints.plans = [SILENT]
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
    world.checkpoints.plans = [SILENT]
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.signal("checkpoint_now")
        await world.until(lambda: world.documents.told("CheckpointCompleted"), within=70)
        assert world.documents.told("CheckpointFailed") == []


async def test_a_pod_that_ended_while_it_was_looked_at(idle_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = idle_world
    call = world.cluster_calls.look_at_replicas

    def overtaken(look: Any) -> Any:
        seen = call(look)
        for job in map(world.cluster.jobs.__getitem__, look.replicas):
            if job.pod and job.pod.exit_code is None and world.active:
                world.cluster.end_pod(job, 0)
        return seen

    monkeypatch.setattr(world.cluster_calls, "look_at_replicas", overtaken)
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.until(lambda: world.phase(0) == "Judging", within=310)  # at the first resync


async def test_a_pod_that_comes_to_run_while_its_events_are_read(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    world.cluster.slow_start = 10_000.0
    read = world.cluster_calls.read_start

    def overtaken(ref: ReplicaRef) -> StartReading:
        reading = read(ref)
        world.cluster._start(world.job(ref.replica, ref.incarnation))
        return reading

    monkeypatch.setattr(world.cluster_calls, "read_start", overtaken)
    async with world.worker():
        await world.submit(replicas=1)
        await world.until(lambda: any(call.name == "read_start" for call in world.calls), within=600)
        await world.running(1, within=10)


async def test_a_question_that_waits_its_turn_in_a_busy_hour(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    world.cluster.slow_start = 10_000.0

    async def late(ref: ReplicaRef) -> StartReading:
        world.cluster._start(world.job(ref.replica, ref.incarnation))
        await world.env.watch(600)
        return StartReading()

    monkeypatch.setattr(world.cluster_calls, "read_start", late)
    async with world.worker():
        await world.submit(replicas=1)
        await world.until(lambda: any(call.name == "read_start" for call in world.calls), within=600)
        await world.running(1, within=10)


async def test_a_training_that_ends_while_its_progress_is_read(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    read, ended = world.cluster_calls.read_progress, list[datetime]()

    def overtaken(request: ReadProgress) -> ProgressReading:
        reading: ProgressReading = read(request)
        if request.ref.incarnation == 1 and not ended:
            ended.append(world.clock.now)
            world.cluster.end_pod(world.job(0, 1), 1)
        return reading

    monkeypatch.setattr(world.cluster_calls, "read_progress", overtaken)
    async with world.worker():
        await world.submit(replicas=1, checkpoint={"checkpointInterval": "3m"})
        await world.running(1)
        await world.until(lambda: world.checkpoints.registry, within=600)
        world.notice(0)
        await world.until(lambda: ended, within=900)
        await world.until(lambda: world.phase(0) != "Running", within=10)


async def test_a_node_of_the_cluster_that_fails_while_it_is_looked_at(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    call = world.cluster_calls.look_at_replicas

    def overtaken(look: Any) -> Any:
        seen = call(look)
        world.cluster.set_ready("own-1", False)
        return seen

    monkeypatch.setattr(world.cluster_calls, "look_at_replicas", overtaken)
    world.cluster.add_node("own-1")
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.until(lambda: world.cloud.created, within=950)  # ten minutes after the first resync


async def test_a_bought_node_that_fails_while_it_is_looked_at(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idle_world
    look = world.fleet.look_at_vm

    async def overtaken(request: Any) -> Any:
        seen = await look(request)
        if len(world.fleet.keys) == 1:
            world.cluster.set_ready(request.node.name, False)
        return seen

    monkeypatch.setattr(world.fleet, "look_at_vm", overtaken)
    async with world.worker():
        await world.submit(replicas=1)
        await world.running(1)
        await world.until(lambda: len(world.fleet.keys) == 2, within=1500)  # ten minutes after the first look
