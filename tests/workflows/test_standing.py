"""Disruptions and failures, after which the machine stays up: evictions, deleted pods, drains, failures."""

from collections.abc import Callable

import pytest

from api.common import Condition
from tests.workflows.cluster_objects import Job
from tests.workflows.world import World

HOUR = 3600.0
ON_FREE = "gpu-a"


def stable(world: World) -> Condition:
    condition = world.documents.condition("Stable")
    assert condition is not None, world.told()
    return condition


def soon(world: World, then: Callable[[Job], None], *, after: float = 30.0, on: str | None = None) -> None:
    """Let something happen to each pod that starts, ``on`` one machine or on all."""

    def started(job: Job) -> None:
        if job.pod is not None and (on is None or job.pod.node == on):
            pod = job.pod
            world.clock.after(after, lambda: then(job) if job.pod is pod else None)

    world.cluster.on_start = started


async def test_an_eviction_loop_is_told_and_costs_ever_less(world: World) -> None:
    soon(world, world.cluster.evict)
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("Stable"))
    assert len(world.cloud.created) <= 2
    assert (stable(world).status, stable(world).reason) == ("False", "EvictedAgainAndAgain")
    assert "The node was low on resource: memory" in stable(world).message
    assert "let jobTemplate request the memory" in stable(world).message
    await world.pass_time(4 * HOUR)
    assert len(world.cluster.history) <= 18
    assert len(world.cloud.created) <= 9
    assert len(world.cloud.instances) <= 1
    assert world.entry(0).disruptions == len(world.cluster.history) - (world.active or 0)
    assert (world.entry(0).restarts, world.entry(0).preemptions) == (0, 0)


async def test_a_machine_on_which_pods_are_evicted_is_left_and_another_one_is_well(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    first = world.node_of(0)
    world.cluster.evict(world.cluster.job_of(0))
    soon(world, world.cluster.evict, on=first)
    await world.until(lambda: world.active == 1 and world.node_of(0) != first)
    await world.until(lambda: first not in world.cloud.instances)
    assert world.entry(0).disruptions == 2
    assert "LeavesMachine" in {event.reason for event in world.documents.events}
    await world.until(lambda: stable(world).status == "True", within=2 * HOUR)
    assert len(world.cloud.created) == 2


async def test_pods_that_are_deleted_again_and_again_are_told(world: World) -> None:
    soon(world, world.cluster.delete_pod)
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("Stable"))
    assert stable(world).reason == "DeletedAgainAndAgain"
    assert "audit log" in stable(world).message
    await world.pass_time(HOUR)
    assert len(world.cloud.created) <= 5


async def test_pods_that_end_before_they_run_leave_the_machine(world: World) -> None:
    """They are deleted as soon as they are on their node: the first time again there, the second time elsewhere."""
    world.cluster.slow_start = 60
    await world.submit(replicas=1)
    for count in (1, 2):
        await world.until(lambda n=count: len(world.cluster.history) == n and world.cluster.job_of(0).pod)
        await world.until(lambda: world.cluster.job_of(0).pod.node)
        world.cluster.delete_pod(world.cluster.job_of(0))
    await world.running(1)
    assert len(world.cloud.created) == 2
    assert world.node_of(0) == world.cloud.created[1]
    assert stable(world).reason == "NeverRuns"


async def test_an_eviction_after_a_long_good_run_is_one_of_its_own(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for number in (1, 2, 3):
        await world.pass_time(2 * HOUR)
        world.cluster.evict(world.cluster.job_of(0))
        await world.until(lambda n=number: world.entry(0).incarnation == n and world.active == 1)
    assert len(world.cloud.created) == 1
    assert world.entry(0).disruptions == 3
    assert world.documents.condition("Stable") is None


async def test_evictions_before_anything_is_saved_are_in_a_row(world: World) -> None:
    """It is evicted every twenty minutes, with a checkpoint every two hours, and would never get anywhere."""
    soon(world, world.cluster.evict, after=1200)
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "2h"})
    await world.until(lambda: world.documents.condition("Stable"), within=HOUR)
    assert len(world.cloud.created) <= 2


async def test_a_machine_on_which_the_training_fails_is_left(world: World) -> None:
    """It exits with 1 on one machine only: that machine is broken, and restarts there would use up maxRestarts."""
    await world.submit(replicas=1)
    await world.running(1)
    broken = world.node_of(0)
    soon(world, lambda job: world.cluster.end_pod(job, 1), on=broken, after=900)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.active == 1 and world.node_of(0) != broken, within=HOUR)
    assert (stable(world).status, stable(world).reason) == ("False", "FailsAgainAndAgain")
    await world.pass_time(2 * HOUR)
    assert stable(world).status == "True"
    assert world.entry(0).restarts == 2
    assert len(world.cloud.created) == 2


async def test_a_training_that_fails_everywhere_tries_one_other_machine(world: World) -> None:
    soon(world, lambda job: world.cluster.end_pod(job, 1))
    await world.submit(replicas=1, maxRestarts=8)
    await world.until(lambda: world.documents.condition("Failed"), within=2 * HOUR)
    assert len(world.cloud.created) == 2


@pytest.mark.parametrize("running", [True, False], ids=["Running", "Starting"])
async def test_a_bought_machine_that_is_drained_is_left_at_once(world: World, running: bool) -> None:
    world.cluster.slow_start = 0 if running else 60
    await world.submit(replicas=1)
    await world.until(lambda: world.cloud.created and world.cluster.jobs and world.cluster.job_of(0).pod)
    await world.until(lambda: world.cluster.job_of(0).pod.node)
    if running:
        await world.running(1)
    drained = world.node_of(0)
    world.cluster.drain(drained)
    await world.until(lambda: world.active == 1 and world.node_of(0) != drained)
    await world.until(lambda: drained not in world.cloud.instances)
    assert len(world.cloud.created) == 2
    assert world.entry(0).restarts == 0
    assert world.documents.condition("Stable") is None


async def test_drains_one_after_the_other_are_told(world: World) -> None:
    soon(world, lambda job: world.cluster.drain(job.pod.node))  # type: ignore[union-attr,arg-type]
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "1m"})  # each drain waits for a checkpoint
    await world.until(lambda: world.documents.condition("Stable"))
    assert "Eviction API: evicting" in stable(world).message
    await world.pass_time(2 * HOUR)
    assert len(world.cloud.created) <= 6


async def test_a_node_of_the_cluster_that_is_drained_is_left_and_uncordoned_it_is_as_good_as_any(world: World) -> None:
    world.cluster.add_node(ON_FREE)
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.drain(ON_FREE)
    await world.until(lambda: world.active == 1 and world.node_of(0) != ON_FREE)


async def test_a_pod_that_is_evicted_once_from_a_node_that_stays_open_goes_on_there(world: World) -> None:
    world.cluster.add_node(ON_FREE)
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.evict(world.cluster.job_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.node_of(0) == ON_FREE
    assert world.cloud.created == []


async def test_a_free_node_on_which_its_pods_are_evicted_is_avoided(world: World) -> None:
    world.cluster.add_node(ON_FREE)
    soon(world, world.cluster.evict, on=ON_FREE)
    await world.submit(replicas=1)
    await world.until(lambda: world.active == 1 and world.node_of(0) != ON_FREE)
    assert len(world.cloud.created) == 1
    world.notice(0)  # also after it has run elsewhere
    await world.until(
        lambda: world.active == 1 and world.node_of(0) == world.cloud.created[-1] != world.cloud.created[0]
    )


async def test_a_training_on_an_unfit_node_runs_on_and_is_not_started_there_again(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    unfit = world.node_of(0)
    world.cluster.sicken(unfit, "FrequentContainerdRestart")
    await world.pass_time(HOUR)
    assert (world.entry(0).incarnation, world.node_of(0)) == (0, unfit)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.active == 1 and world.node_of(0) != unfit)
    await world.until(lambda: unfit not in world.cloud.instances)
    said = next(event.message for event in world.documents.events if event.reason == "LeavesMachine")
    assert said.startswith(f"replica 0 leaves {unfit}, which is FrequentContainerdRestart")


async def test_a_broken_node_is_left(world: World) -> None:
    world.cluster.add_node(ON_FREE)
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.mark(ON_FREE, "KernelDeadlock")
    await world.until(lambda: world.active == 1 and world.node_of(0) != ON_FREE)


async def test_an_instability_ends_with_the_replica_that_had_it(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    soon(world, lambda job: world.cluster.evict(job) if job.request.replica == 1 else None)
    world.cluster.evict(world.cluster.job_of(1))
    await world.until(lambda: world.documents.condition("Stable"))
    world.documents.edit(replicas=1)
    await world.until(lambda: stable(world).status == "True", within=300)
    assert world.active == 1


async def test_a_resumed_replica_does_not_wait_for_what_was_wrong_before(world: World) -> None:
    soon(world, world.cluster.evict)
    await world.submit(replicas=1)
    await world.pass_time(4 * HOUR)
    world.documents.edit(suspend=True, suspend_unsaved=True)
    await world.until(lambda: world.phase(0) == "Suspended")
    assert stable(world).status == "True"
    world.cluster.on_start = lambda job: None
    world.documents.edit(suspend=False)
    await world.running(1, within=900)
    await world.pass_time(60)
    assert stable(world).status == "True"


async def test_machines_that_break_one_after_the_other_are_bought_ever_later(world: World) -> None:
    soon(world, lambda job: world.cluster.mark(job.pod.node, "GPUMissing") if job.pod else None, after=5)
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("Stable"))
    assert len(world.cloud.created) <= 2
    assert (stable(world).status, stable(world).reason) == ("False", "MachinesBreak")
    assert "lost 2 machines in a row to GPUMissing" in stable(world).message
    await world.pass_time(4 * HOUR)
    assert len(world.cloud.created) <= 8
    world.cluster.on_start = lambda job: None
    await world.until(lambda: stable(world).status == "True", within=3 * HOUR)
