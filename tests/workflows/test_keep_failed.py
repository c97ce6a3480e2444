"""With ``keepFailedFor`` the machine of a replica that failed for good is kept for its owner for a while."""

from typing import Any

from tests.workflows.world import World


async def failed(world: World, **spec: Any) -> str:
    """Let a replica use up its restarts, and return the name of its machine."""
    await world.submit(replicas=1, maxRestarts=0, keepFailedFor="2h", **spec)
    await world.running(1)
    machine = world.node_of(0)
    await world.pass_time(100)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).kept_until is not None)
    return machine


async def test_it_is_kept_that_long_and_then_released(world: World) -> None:
    machine = await failed(world)
    failed_at = world.clock.now
    entry = world.entry(0)
    assert abs((entry.kept_until - failed_at).total_seconds() - 7200) < 20
    assert f"gcloud compute ssh {machine} --zone us-central1-a --project p" in entry.message
    assert f"kubectl debug node/{machine}" in entry.message
    await world.until(lambda: world.documents.condition("Failed") is not None, within=10)
    assert world.documents.condition("Failed").status == "True"
    assert world.documents.told("Kept")
    await world.pass_time(7000)
    assert machine in world.cloud.instances
    assert await world.ended(within=900) == "Failed"
    assert machine not in world.cloud.instances
    assert world.entry(0).kept_until is None


async def test_deletion_ends_it_at_once(world: World) -> None:
    await failed(world)
    await world.pass_time(600)
    await world.delete()
    assert await world.ended(within=300) == "Deleted"
    await world.nothing_left()


async def test_an_edit_makes_it_shorter_as_long_as_the_job_lives(world: World) -> None:
    await world.submit(replicas=2, maxRestarts=0, keepFailedFor="2h")
    await world.running(2)
    machine = world.node_of(0)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).kept_until is not None)
    world.documents.edit(keep_failed_for="20m")
    await world.pass_time(1000)
    assert machine in world.cloud.instances
    await world.until(lambda: world.phase(0) == "Failed", within=600)
    assert machine not in world.cloud.instances


async def test_a_machine_that_is_taken_away_is_not_waited_for(world: World) -> None:
    await failed(world)
    world.notice(0)
    assert await world.ended(within=600) == "Failed"
    assert world.cloud.instances == {}


async def test_a_sibling_trains_on_meanwhile(world: World) -> None:
    await world.submit(replicas=2, maxRestarts=0, keepFailedFor="30m")
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).kept_until is not None)
    await world.pass_time(1700)
    assert world.training() == [(1, 0)]
    await world.until(lambda: world.phase(0) == "Failed", within=900)
    assert world.training() == [(1, 0)]


async def test_a_success_lets_go_at_once(world: World) -> None:
    await world.submit(replicas=1, keepFailedFor="2h")
    await world.running(1)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended(within=600) == "Completed"
