"""A pod ends: who is to blame, and what follows?"""

from tests.workflows.world import World


async def test_exit_0_on_sigterm_is_a_preemption(world: World) -> None:
    world.cluster.sigterm_exit = 0
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.documents.told("Completed") == []
    assert world.entry(0).preemptions == 1


async def test_exit_0_on_sigterm_without_any_notice_is_a_preemption(world: World) -> None:
    world.cluster.sigterm_exit = 0
    await world.submit(replicas=1)
    await world.running(1)
    world.machines.notice(world.node_of(0), 20, told=False)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.documents.told("Completed") == []


async def test_exit_1_counts_and_starts_again_on_the_same_machine(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(100)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.entry(0).restarts == 1
    assert world.entry(0).preemptions == 0
    assert len(world.cloud.created) == 1


async def test_a_failure_is_restored_from_the_sibling(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(300)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.job(0, 1).pod.base >= 300


async def test_restarts_used_up_fail_the_job(world: World) -> None:
    await world.submit(replicas=1, maxRestarts=1)
    for incarnation in (0, 1):
        await world.until(lambda seen=incarnation: world.training() == [(0, seen)])
        await world.pass_time(100)
        world.cluster.end_pod(world.cluster.job_of(0), 1)
        await world.until(lambda: world.training() == [])
    assert await world.ended() == "Failed"
    assert world.documents.condition("Failed").status == "True"
    assert world.cloud.instances == {}


async def test_one_failed_replica_of_two_does_not_fail_the_job(world: World) -> None:
    await world.submit(replicas=2, maxRestarts=0)
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.phase(0) == "Failed")
    await world.pass_time(60)
    assert world.training() == [(1, 0)]
    world.cluster.end_pod(world.cluster.job_of(1), 0)
    assert await world.ended() == "Completed"


async def test_policy_all_fails_with_the_first_replica_that_does(world: World) -> None:
    await world.submit(replicas=2, maxRestarts=0, completionPolicy="All")
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    assert await world.ended() == "Failed"


async def test_a_pod_deleted_by_somebody_is_restored_on_its_machine(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(100)
    node = world.node_of(0)
    world.cluster.delete_pod(world.cluster.job_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=60)
    assert world.node_of(0) == node
    assert world.entry(0).restarts == 0
    assert world.job(0, 1).pod.base >= 100


async def test_a_pod_deleted_while_it_starts_is_made_again_on_its_machine(world: World) -> None:
    world.cluster.slow_start = 60
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Starting" and world.cluster.job_of(0).pod)
    world.cluster.delete_pod(world.cluster.job_of(0))
    await world.running(1)
    assert len(world.cloud.created) == 1
    assert world.entry(0).restarts == 0


async def test_a_job_deleted_by_somebody_is_made_again(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    job = world.cluster.job_of(0)
    job.deleting = True
    world.cluster.delete_pod(job)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert len(world.cloud.created) == 1


async def test_an_end_that_nobody_told_of_is_found(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.bridge.lost = {"replica_changed"}
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended(within=600) == "Completed"


async def test_an_original_image_that_does_not_start_is_the_trainings_failure(world: World) -> None:
    await world.submit(replicas=1, maxRestarts=0)
    world.cluster._start = lambda job, member: _refuse(world, job)  # type: ignore[method-assign]
    assert await world.ended() == "Failed"
    assert len(world.cloud.created) == 1


def _refuse(world: World, job: object) -> None:
    job.pod.waiting_reason, job.pod.message = "CreateContainerError", "no such command"  # type: ignore[attr-defined]
    world.cluster.changed(job)  # type: ignore[arg-type]
