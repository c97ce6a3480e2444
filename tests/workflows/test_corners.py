"""Corners that docs/phases.md has no cell for: what comes after a request, and two events at once."""

import pytest

from tests.workflows.world import World

ALIVE = [
    "Pending",
    "Preempted",
    "Provisioning",
    "Joining",
    "Restoring",
    "Starting",
    "Running",
    "Judging",
    "Releasing",
]
ENDED = ["Succeeded", "Failed"]
WITH_AN_OUTCOME = {"Releasing", *ENDED}


async def reach(world: World, phase: str) -> None:
    """Bring replica 0 of a job of two into a phase, in which it stays until ``go_on`` or by its nature."""
    if phase == "Pending":
        world.down.add("find_capacity")
    if phase == "Starting":
        world.cluster.slow_start = 60
    policy, restarts = ("Any", 0) if phase == "Failed" else ("All", 3)
    await world.submit(replicas=2, completionPolicy=policy, maxRestarts=restarts)
    if phase in {"Preempted", "Restoring", "Running", "Judging", *WITH_AN_OUTCOME}:
        await world.running(2)
    if phase == "Preempted":
        world.down.add("find_capacity")
        world.notice(0)
    elif phase == "Restoring":
        world.checkpoints.dump_seconds = 150
        world.notice(0)
    elif phase in {"Judging", *WITH_AN_OUTCOME}:
        world.cluster.end_pod(world.cluster.job_of(0), 0 if phase in {"Releasing", "Succeeded"} else 1)
    await world.until(lambda: world.phase(0) == phase, within=400, what=f"replica 0 to be {phase}")


def go_on(world: World) -> None:
    world.down.clear()
    world.cluster.slow_start = 0


def left_to_run(phase: str) -> int:
    return 1 if phase in WITH_AN_OUTCOME else 2


@pytest.mark.parametrize("phase", [*ALIVE, *ENDED])
async def test_suspended_and_resumed(world: World, phase: str) -> None:
    await reach(world, phase)
    await world.signal("suspend")
    await world.until(lambda: world.phase(1) == "Suspended" and world.phase(0) in {"Suspended", "Succeeded", "Failed"})
    await world.until(lambda: world.cloud.instances == {})
    assert world.training() == []
    go_on(world)
    await world.signal("resume")
    await world.running(left_to_run(phase))


async def test_the_one_that_has_finished_is_the_one_that_is_left(world: World) -> None:
    await reach(world, "Succeeded")
    world.documents.edit(replicas=1)
    assert await world.ended() == "Completed"


async def test_the_one_that_has_failed_is_one_too_many_before_any_other(world: World) -> None:
    await reach(world, "Failed")
    world.documents.edit(replicas=1)
    await world.pass_time(120)
    assert world.training() == [(1, 0)]
    assert world.documents.status.replicas == 1


@pytest.mark.parametrize("code", [0, 1])
async def test_a_pod_that_ends_before_anybody_saw_it_run_is_judged(world: World, code: int) -> None:
    world.bridge.lost = {"replica_changed"}
    await world.submit(replicas=1)
    await world.until(lambda: world.training())
    assert world.phase(0) == "Starting"
    world.cluster.end_pod(world.cluster.job_of(0), code)
    await world.until(lambda: world.phase(0) == "Judging", within=310)


async def test_a_pod_that_ends_while_it_is_checkpointed_is_judged_all_the_same(world: World) -> None:
    world.checkpoints.dump_seconds = 30
    await world.submit(replicas=1)
    await world.running(1)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.checkpoints.history and world.checkpoints.history[0].phase)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.phase(0) == "Judging")
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.entry(0).restarts == 1


async def test_a_checkpoint_under_way_does_not_hold_up_a_deletion(world: World) -> None:
    world.checkpoints.dump_seconds = 300
    await world.submit(replicas=1)
    await world.running(1)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.checkpoints.history)
    await world.delete()
    assert await world.ended(within=200) == "Deleted"
    await world.nothing_left()
