"""With verifyRestore the first image is seen to start before it is needed."""

import pytest

from tests.workflows.world import World

VERIFY = {"verifyRestore": True}


async def checkpointed(world: World, replicas: int = 1, **checkpoint: object) -> None:
    await world.submit(replicas=replicas, checkpoint={**VERIFY, **checkpoint})
    await world.running(replicas)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))


def proven(world: World) -> bool:
    condition = world.documents.condition("CheckpointsProven")
    return condition is not None and condition.status == "True"


async def test_the_first_image_is_seen_running_on_a_machine_that_is_let_go(world: World) -> None:
    await checkpointed(world)
    await world.until(lambda: world.documents.condition("CheckpointsProven"))
    assert not proven(world)
    await world.until(lambda: proven(world), within=1200)
    proof = world.job(1, 0)
    assert world.checkpoints.history[0].tag in proof.request.restore.label
    await world.until(lambda: len(world.cloud.of_job(world.documents.start.job_id)) == 1)
    assert world.training() == [(0, 0)]
    await world.pass_time(3000)
    assert len(world.cloud.created) == 2, "once"
    assert {status.replicas for status in world.documents.statuses[3:]} == {1}
    assert max(status.active_replicas or 0 for status in world.documents.statuses) == 1


async def test_a_free_gpu_of_the_cluster_will_do(world: World) -> None:
    await world.submit(replicas=1, checkpoint=VERIFY)
    await world.running(1)
    world.cluster.add_node("gpu-a")
    await world.until(lambda: proven(world), within=1200)
    assert len(world.cloud.created) == 1


async def test_without_being_asked_for_nothing_is_bought(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(3000)
    assert world.documents.condition("CheckpointsProven").status == "False"
    assert len(world.cloud.created) == 1


async def test_an_image_that_does_not_start_is_found_out_in_time(world: World) -> None:
    """It fails on two machines. By then there is another image, which is shown on the third."""
    await checkpointed(world, checkpointInterval="10m")
    first = world.checkpoints.history[0].image
    world.cluster.bad[first] = "CreateContainerError: criu failed"
    await world.until(lambda: len(world.documents.told("VerifiesRestore")) == 2, within=1500)
    assert world.documents.told("RestoreFailed")
    await world.until(lambda: proven(world), within=3000)
    assert world.training() == [(0, 0)] or len(world.training()) == 2
    assert len(world.documents.told("VerifiesRestore")) <= 3


async def test_no_more_than_three_machines_are_bought_for_it(world: World) -> None:
    await _all_bad(world)
    await world.pass_time(6000)
    assert len(world.documents.told("VerifiesRestore")) == 3
    assert not proven(world)
    assert world.training() == [(0, 0)]
    assert len(world.cloud.of_job(world.documents.start.job_id)) == 1


async def _all_bad(world: World) -> None:
    push = world.checkpoints.push

    def bad(image: str, *rest: float) -> object:
        world.cluster.bad[image] = "CreateContainerError: criu failed"
        return push(image, *rest)

    world.checkpoints.push = bad  # type: ignore[method-assign,assignment]
    await checkpointed(world)


async def test_a_recovery_shows_it_too_and_goes_first(world: World) -> None:
    await checkpointed(world, replicas=2)
    await world.until(lambda: world.documents.told("VerifiesRestore"))
    world.notice(0)
    await world.until(lambda: proven(world) and world.active == 2, within=1500)
    await world.until(lambda: len(world.cloud.of_job(world.documents.start.job_id)) == 2)
    assert sorted(key[0] for key in world.training()) == [0, 1]


async def test_a_machine_that_is_lost_meanwhile_is_no_matter(world: World) -> None:
    world.cluster.slow_start = 120
    await checkpointed(world)
    await world.until(lambda: (1, 0) in world.cluster.history and world.cluster.history[1, 0].pod, within=1200)
    await world.until(lambda: world.cluster.history[1, 0].pod.node)
    world.notice(1)
    await world.until(lambda: proven(world), within=2400)
    assert world.entry(0).preemptions == 0


@pytest.mark.parametrize("asked", ["suspend", "delete"])
async def test_it_ends_with_the_job(world: World, asked: str) -> None:
    world.cluster.slow_start = 120
    await checkpointed(world)
    await world.until(lambda: (1, 0) in world.cluster.history, within=1200)
    if asked == "delete":
        await world.delete()
        assert await world.ended() == "Deleted"
        await world.nothing_left()
        return
    await world.signal("suspend")
    await world.until(lambda: world.cloud.of_job(world.documents.start.job_id) == [], within=1800)
    assert world.training() == []
