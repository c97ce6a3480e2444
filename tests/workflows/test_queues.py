"""A queue such as Kueue, or somebody else, holds Jobs: nothing is bought until they are admitted."""

from typing import Any

import pytest

from activities import signatures as act
from api.common import Condition
from api.queues import QUEUE_LABEL
from tests.workflows.queue import Queue
from tests.workflows.world import World

HOUR = 3600.0
TEMPLATE = {
    "metadata": {"labels": {QUEUE_LABEL: "research"}},
    "spec": {"template": {"spec": {"containers": [{"name": "train", "image": "train:1"}]}}},
}


@pytest.fixture
def queue(world: World) -> Queue:
    """Make a queue without room, of which the job knows."""
    world.cluster.queue = Queue(world.cluster)
    world.documents.hold = act.Hold(by="queue research")
    return world.cluster.queue


async def submit(world: World, **spec: Any) -> None:
    await world.submit(**{"replicas": 1, "jobTemplate": TEMPLATE, **spec})


def told(world: World) -> Condition:
    condition = world.documents.condition("Queued")
    assert condition is not None
    return condition


async def queued(world: World) -> None:
    await world.until(lambda: world.phase(0) == "Queued")


async def test_nothing_is_bought_for_a_job_that_a_queue_holds(world: World, queue: Queue) -> None:
    await submit(world)
    await world.pass_time(12 * HOUR)
    assert world.cloud.created == []
    assert world.phase(0) == "Queued"
    assert (told(world).status, told(world).reason) == ("True", "HeldByQueue")
    assert f"queue research holds Job {world.job(0, 0).name}" in (told(world).message or "")
    assert len(world.cluster.history) == 1, "it would lose its turn"


async def test_a_queue_of_a_cluster_without_kueue_is_told_as_that(world: World, queue: Queue) -> None:
    world.documents.hold = act.Hold(by="queue research", served=False)
    await submit(world)
    await queued(world)
    await world.until(lambda: "had no Kueue" in (told(world).message or ""), 60)
    assert "`kubectl -n " in (told(world).message or ""), "the way out"


async def test_a_job_that_is_let_in_buys_one_machine_and_runs_to_its_end(world: World, queue: Queue) -> None:
    world.cluster.steps = 917
    await submit(world)
    await world.pass_time(HOUR)
    queue.give(1)
    await world.running(1)
    assert len(world.cloud.created) == 1
    assert world.entry(0).incarnation == 0
    assert told(world).status == "False"
    assert await world.ended() == "Completed"


async def test_a_machine_lost_on_its_way_is_replaced_for_the_same_job(world: World, queue: Queue) -> None:
    queue.give(1)
    await submit(world)
    await world.until(lambda: world.phase(0) == "Joining")
    world.cloud.power_off(next(iter(world.cloud.created)))
    await world.running(1)
    assert (len(world.cloud.created), len(world.cluster.history)) == (2, 1)


async def test_a_machine_lost_before_the_pod_is_there_is_replaced_for_the_same_job(world: World, queue: Queue) -> None:
    queue.give(1)
    world.cluster.too_big = True
    await submit(world)
    await world.until(lambda: world.phase(0) == "Starting")
    world.machines.notice(next(iter(world.cloud.created)), 5)
    world.cluster.too_big = False
    world.cluster.nodes[next(iter(world.cloud.created))].gpus = 0
    await world.running(1)
    assert (len(world.cloud.created), len(world.cluster.history)) == (2, 1)


async def test_a_free_gpu_of_the_cluster_is_taken(world: World, queue: Queue) -> None:
    world.cluster.add_node("gpu-a")
    await submit(world)
    await world.pass_time(600)
    queue.give(1)
    await world.running(1)
    assert world.node_of(0) == "gpu-a"
    assert world.cloud.created == []


async def test_a_gpu_that_is_free_no_more_is_replaced_by_a_machine(world: World, queue: Queue) -> None:
    world.cluster.add_node("gpu-a")
    await submit(world)
    await queued(world)
    world.cluster.nodes["gpu-a"].gpus = 0
    queue.give(1)
    await world.running(1)
    assert world.node_of(0) in world.cloud.created
    assert len(world.cluster.history) == 1, "another Job would have to queue again"


async def test_who_is_held_again_while_it_buys_buys_no_more(world: World, queue: Queue) -> None:
    queue.give(1)
    await submit(world)
    await world.until(lambda: world.phase(0) == "Provisioning")
    queue.preempt(world.cluster.job_of(0))
    await queued(world)
    await world.until(lambda: world.cloud.instances == {}, within=900)
    await world.pass_time(6 * HOUR)
    assert len(world.cloud.created) <= 1
    assert len(world.cluster.history) == 1
    queue.give(1)
    await world.running(1)
    assert len(world.cluster.history) == 1


async def test_a_preempted_job_gives_its_machine_back_and_goes_on_from_its_checkpoint(
    world: World, queue: Queue
) -> None:
    queue.give(1)
    await submit(world)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    queue.preempt(world.cluster.job_of(0))
    await queued(world)
    await world.until(lambda: world.cloud.instances == {}, within=900)
    await world.pass_time(HOUR)
    assert (world.entry(0).restarts, len(world.cloud.created)) == (0, 1)
    assert [job.key for job in world.cluster.jobs.values()] == [(0, 1)], (
        "the suspended Job would start from the beginning"
    )
    queue.give(1)
    await world.running(1)
    assert world.job(0, 1).pod is not None
    assert world.job(0, 1).pod.base >= 500
    assert len(world.cloud.created) == 2


async def test_a_restart_takes_its_turn_and_keeps_its_machine(world: World, queue: Queue) -> None:
    queue.give(1)
    await submit(world)
    await world.running(1)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert (world.entry(0).restarts, len(world.cloud.created)) == (1, 1)


async def test_a_lost_machine_does_not_keep_the_quota_that_its_successor_waits_for(world: World, queue: Queue) -> None:
    queue.give(1)
    await submit(world)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert (world.entry(0).preemptions, len(world.cloud.created)) == (1, 2)


async def test_two_replicas_take_their_turns(world: World, queue: Queue) -> None:
    queue.give(1)
    await submit(world, replicas=2)
    await world.running(1)
    await world.pass_time(HOUR)
    assert len(world.cloud.created) == 1
    assert sorted([world.phase(0), world.phase(1)]) == ["Queued", "Running"]
    queue.give(2)
    await world.running(2)


async def test_a_webhook_that_suspends_every_job_is_noticed(world: World) -> None:
    """Kueue has ``manageJobsWithoutQueueName``, and nothing said so before the first Job."""
    world.cluster.queue = queue = Queue(world.cluster, all_jobs=True)
    await world.submit(replicas=1)
    await queued(world)
    await world.until(lambda: world.cloud.instances == {}, within=900)
    await world.pass_time(HOUR)
    assert len(world.cloud.created) == 1
    assert told(world).reason == "HeldByOthers"
    assert "an admission webhook" in (told(world).message or "")
    queue.give(1)
    await world.running(1)
    world.notice(0)
    await world.until(lambda: world.active == 1 and world.entry(0).preemptions == 1)
    assert len(world.cloud.created) == 3


async def test_a_person_who_suspends_a_job_is_named_and_can_let_it_go_on(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.cluster.hold(world.cluster.job_of(0), "kubectl-patch")
    await queued(world)
    await world.until(lambda: world.cloud.instances == {}, within=900)
    assert "kubectl-patch holds Job" in "".join(world.documents.told("Held"))
    world.cluster.admit(world.cluster.job_of(0))
    await world.running(1)
    assert world.cluster.job_of(0).pod.base >= 500  # type: ignore[union-attr]
    world.notice(0)  # nobody holds the next Job: that was for once
    await world.until(lambda: world.entry(0).incarnation == 2 and world.active == 1)


async def test_a_queued_job_that_is_deleted_by_somebody_queues_again(world: World, queue: Queue) -> None:
    await submit(world)
    await queued(world)
    world.cluster.stop(world.cluster.job_of(0), delete=True, force=True)
    await world.until(lambda: (0, 1) in world.cluster.jobs)
    queue.give(1)
    await world.running(1)
    assert len(world.cloud.created) == 1


async def test_a_job_that_cannot_be_created_is_told_as_that(world: World, queue: Queue) -> None:
    """Kueue's webhooks refuse each Job while Kueue is unreachable."""
    world.down.add("create_replica")
    await submit(world)
    await world.pass_time(HOUR)
    assert (told(world).reason, world.cloud.created) == ("NotCreated", [])
    assert "create_replica is down" in (told(world).message or "")
    world.down.clear()
    queue.give(1)
    await world.running(1)


async def test_no_machine_is_bought_for_a_job_that_was_let_in_and_gets_no_pod(world: World, queue: Queue) -> None:
    """The Job's controller cannot create what Kueue has admitted, for example because of the namespace's quota."""
    schedule = world.cluster._schedule
    world.cluster._schedule = lambda job: None  # type: ignore[method-assign]
    queue.give(1)
    await submit(world)
    await world.pass_time(HOUR)
    assert (told(world).reason, world.cloud.created) == ("NoPod", [])
    world.cluster._schedule = schedule  # type: ignore[method-assign]
    schedule(world.job(0, 0))
    await world.running(1)


@pytest.mark.parametrize("known", [True, False], ids=["by the template", "by a webhook"])
async def test_no_machine_is_bought_for_a_pod_that_a_scheduling_gate_holds(world: World, known: bool) -> None:
    world.cluster.gates = True
    world.documents.hold = act.Hold(by="scheduling gate example.com/quota", suspends=False) if known else None
    await world.submit(replicas=1)
    await queued(world)
    await world.until(lambda: world.cloud.instances == {}, within=900)
    await world.pass_time(HOUR)
    assert len(world.cloud.created) == (0 if known else 1)
    assert "scheduling gate" in (told(world).message or "")
    world.cluster.gates = False
    await world.running(1)
    assert len(world.cloud.created) == (1 if known else 2)


async def test_labels_of_the_spotinstancejob_itself_count_for_its_jobs(world: World, queue: Queue) -> None:
    world.documents.hold = act.Hold(by="queue research", labels={QUEUE_LABEL: "research"})
    await world.submit(replicas=1)
    await queued(world)
    assert world.job(0, 0).queue == "research"


@pytest.mark.parametrize("end", ["suspend", "delete"])
async def test_a_queued_job_is_let_go(world: World, queue: Queue, end: str) -> None:
    await submit(world)
    await queued(world)
    if end == "delete":
        await world.delete()
        assert await world.ended() == "Deleted"
        await world.nothing_left()
        return
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    assert world.cluster.jobs == {}
    assert told(world).status == "False"
