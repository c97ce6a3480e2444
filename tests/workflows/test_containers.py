"""A pod with other containers beside the training: TensorBoard, a proxy. Whose end is the replica's?"""

from typing import Any

from tests.workflows.world import World

TEMPLATE = {
    "spec": {
        "template": {
            "spec": {"containers": [{"name": "train", "image": "train:1"}, {"name": "tensorboard", "image": "tb:1"}]}
        }
    }
}


async def training(world: World, **spec: Any) -> None:
    await world.submit(replicas=1, jobTemplate=TEMPLATE, **spec)
    await world.running(1)
    await world.pass_time(700)


async def test_a_container_that_fails_beside_one_that_runs_on_is_a_restart(world: World) -> None:
    await training(world)
    world.cluster.end_container(world.cluster.job_of(0), "train", 1)
    await world.until(lambda: world.entry(0).restarts == 1 and world.active == 1)
    [told] = world.documents.told("ReplicaRestarts")
    assert "container train: exit code 1" in told
    assert len(world.cloud.created) == 1, "on the machine that it has"
    assert world.training() == [(0, 1)], "what ran on has stopped"


async def test_one_that_fails_too_often_fails_the_job_and_stops_what_runs_on(world: World) -> None:
    await training(world, maxRestarts=0)
    world.cluster.end_container(world.cluster.job_of(0), "train", 1)
    assert await world.ended() == "Failed"
    assert world.cluster.jobs == {}
    assert (0, 0) in world.cluster.logs


async def test_one_that_ends_well_beside_one_that_runs_on_is_no_end(world: World) -> None:
    await training(world)
    world.cluster.end_container(world.cluster.job_of(0), "train", 0)
    await world.pass_time(600)
    assert world.training() == [(0, 0)]


async def test_the_main_containers_success_completes_the_job(world: World) -> None:
    await training(world, mainContainer="train")
    world.cluster.end_container(world.cluster.job_of(0), "train", 0)
    assert await world.ended() == "Completed"
    assert world.cluster.jobs == {}, "TensorBoard would run on for ever"


async def test_the_main_containers_failure_counts_whatever_the_others_do(world: World) -> None:
    await training(world, mainContainer="train")
    world.cluster.end_container(world.cluster.job_of(0), "tensorboard", 0)
    world.cluster.end_container(world.cluster.job_of(0), "train", 3)
    await world.until(lambda: world.entry(0).restarts == 1 and world.active == 1)
    assert "container train: exit code 3" in world.documents.told("ReplicaRestarts")[0]


async def test_another_containers_failure_is_none_of_the_training(world: World) -> None:
    await training(world, mainContainer="train")
    world.cluster.end_container(world.cluster.job_of(0), "tensorboard", 1)
    await world.pass_time(600)
    assert world.training() == [(0, 0)]
    assert world.entry(0).restarts == 0


async def test_a_container_that_fails_when_its_machine_goes_is_a_preemption(world: World) -> None:
    await training(world)
    world.notice(0)
    world.cluster.end_container(world.cluster.job_of(0), "train", 1)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert (world.entry(0).restarts, world.entry(0).preemptions) == (0, 1)


async def test_an_init_container_that_fails_is_a_restart_and_ends_the_job_at_last(world: World) -> None:
    """An earlier release started it again for ever, because its pod "ended before it ran"."""
    world.cluster._start = lambda job, member: world.cluster.fail_init(job, 3)  # type: ignore[method-assign]
    await world.submit(replicas=1, maxRestarts=2)
    assert await world.ended() == "Failed"
    assert world.entry(0).restarts == 3
    assert "init container download: exit code 3" in world.documents.told("ReplicaRestarts")[0]
    assert (0, 0) in world.cluster.logs


async def test_the_failure_policy_judges_init_containers_too(world: World) -> None:
    world.cluster._start = lambda job, member: world.cluster.fail_init(job, 42)  # type: ignore[method-assign]
    fatal = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    await world.submit(replicas=1, jobTemplate={"spec": {**TEMPLATE["spec"], "podFailurePolicy": {"rules": [fatal]}}})
    assert await world.ended() == "Failed"
    assert world.documents.told("ReplicaRestarts") == []
