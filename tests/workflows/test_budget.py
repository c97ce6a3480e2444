"""Evictions wait for a checkpoint: the job's PodDisruptionBudget follows the checkpoints."""

from tests.workflows.test_application import STORAGE
from tests.workflows.world import World

FREE = "gpu-a"


async def test_a_drain_of_a_bought_machine_waits_for_the_next_checkpoint(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.cluster.budget)
    await world.pass_time(400)
    drained, trained = world.node_of(0), []
    world.cluster.on_sigterm = lambda job: trained.append(world.cluster.progress(job))
    world.cluster.drain(drained)
    await world.until(lambda: world.active == 1 and world.node_of(0) != drained, within=1200)
    assert world.job(0, 1).pod is not None
    assert trained[0] - world.job(0, 1).pod.base <= 20  # trained during the checkpoint and until the next attempt
    await world.until(lambda: drained not in world.cloud.instances)


async def test_a_cordoned_node_of_the_cluster_is_saved_and_drained_at_once(world: World) -> None:
    world.cluster.add_node(FREE)
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "12h"})
    await world.running(1)
    await world.pass_time(1000)
    world.cluster.drain(FREE)
    await world.until(lambda: world.active == 1 and world.node_of(0) != FREE, within=300)
    assert world.job(0, 1).pod.base >= 990
    assert "NodeCordoned" in {event.reason for event in world.documents.events}


async def test_an_eviction_passes_in_the_end_if_no_checkpoint_comes(world: World) -> None:
    world.checkpoints.plans = ["fail"] * 100
    await world.submit(replicas=1)
    await world.running(1)
    drained = world.node_of(0)
    world.cluster.drain(drained)
    await world.until(lambda: world.active == 1 and world.node_of(0) != drained, within=2400)


async def test_one_of_two_copies_may_be_evicted_at_any_time(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.until(lambda: world.cluster.budget)
    drained = world.node_of(0)
    world.cluster.drain(drained)
    await world.until(lambda: world.active == 2 and world.node_of(0) != drained)


async def test_evictions_pass_once_the_job_is_suspended_or_done(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.cluster.budget)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended" and not world.cluster.budget)
    await world.signal("resume")
    await world.running(1)
    await world.until(lambda: world.cluster.budget)
    await world.delete()
    await world.ended()
    assert not world.cluster.budget


async def test_a_training_that_saves_itself_needs_no_budget(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"mode": "Application", "checkpointStorage": STORAGE})
    await world.running(1)
    await world.pass_time(300)
    assert not world.cluster.budget


async def test_no_interval_keeps_evictions_waiting_for_more_than_an_hour(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "8760h"})
    await world.running(1)
    await world.until(lambda: world.cluster.budget)
    await world.until(lambda: not world.cluster.budget, within=2 * 3600)
