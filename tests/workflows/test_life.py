"""A job's plain life: a place, checkpoints, completion."""

from datetime import datetime
from itertools import pairwise

import pytest

from tests.workflows import machines
from tests.workflows.world import World


async def test_two_replicas_on_bought_vms_train_to_completion(world: World) -> None:
    world.cluster.steps = 917
    await world.submit(replicas=2)
    await world.running(2)
    assert len({world.node_of(0), world.node_of(1)}) == 2
    assert await world.ended() == "Completed"
    assert world.documents.condition("Completed").status == "True"
    assert world.documents.status.observed_generation == 1
    assert world.cloud.instances == {}


async def test_one_replica_is_as_good_a_citizen(world: World) -> None:
    world.cluster.steps = 1517
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.job(0, 1).request.restore is not None
    assert world.job(0, 1).pod.base >= 500
    assert await world.ended() == "Completed"
    assert len(world.cloud.created) == 2


async def test_free_gpus_of_the_cluster_are_taken_before_any_vm_is_bought(world: World) -> None:
    world.cluster.steps = 217
    world.cluster.add_node("gpu-a")
    world.cluster.add_node("gpu-b")
    await world.submit(replicas=2)
    await world.running(2)
    assert {world.node_of(0), world.node_of(1)} == {"gpu-a", "gpu-b"}
    assert await world.ended() == "Completed"
    assert world.cloud.created == []


async def test_a_free_gpu_that_another_pod_snatches_is_replaced_by_a_bought_one(world: World) -> None:
    world.cluster.add_node("gpu-a")
    world.cluster.snatched.add("gpu-a")
    await world.submit(replicas=1)
    await world.running(1)
    assert world.node_of(0) in world.cloud.created
    assert world.entry(0).preemptions == 0


async def test_no_vm_is_bought_while_the_scheduler_is_late_for_all(world: World) -> None:
    world.cluster.add_node("gpu-a")
    world.cluster.scheduler_away = True
    await world.submit(replicas=1)
    await world.pass_time(200)
    world.cluster.scheduler_away = False
    await world.running(1)
    assert (world.node_of(0), world.entry(0).incarnation) == ("gpu-a", 0)
    assert world.cloud.created == []


async def test_a_pod_that_no_scheduler_looks_at_gives_its_place_up_after_some_minutes(world: World) -> None:
    world.cluster.add_node("gpu-a")
    world.cluster.scheduler_away = True
    await world.submit(replicas=1)
    await world.until(lambda: bool(world.cloud.created))


async def test_a_device_that_another_job_claims_is_looked_for_elsewhere(world: World) -> None:
    world.cluster.add_node("gpu-a")
    world.cluster.claimed.add("gpu-a")
    await world.submit(replicas=1)
    await world.running(1)
    assert world.node_of(0) in world.cloud.created
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (0, 0)


async def test_the_winners_job_stays_and_its_siblings_jobs_go(world: World) -> None:
    world.cluster.steps = 217
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.edit(replicas=2)
    await world.running(2)
    await world.ended()
    assert [job.pod.phase for job in world.cluster.jobs.values() if job.pod] in ([], ["Succeeded"])
    assert len(world.cluster.jobs) == 1


async def test_siblings_stop_only_after_the_verdict_on_the_first_success(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.until(lambda: world.phase(0) == "Judging")
    await world.pass_time(50)
    assert world.training() == [(1, 0)]
    await world.until(lambda: world.documents.told("Completed"))
    await world.ended()
    assert world.training() == []


async def test_completion_policy_all_waits_for_every_replica(world: World) -> None:
    await world.submit(replicas=2, completionPolicy="All")
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.until(lambda: world.phase(0) == "Succeeded")
    await world.pass_time(120)
    assert world.training() == [(1, 0)]
    world.cluster.end_pod(world.cluster.job_of(1), 0)
    assert await world.ended() == "Completed"


async def test_the_furthest_replica_is_checkpointed_at_every_interval(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(1900)
    made = [backup.created_at for backup in world.checkpoints.history]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(made)]
    assert len(made) == 3
    assert all(595 <= gap <= 605 for gap in gaps)
    assert world.checkpoints.history[-1].tag in world.documents.status.last_checkpoint_image


async def test_an_edited_interval_counts_from_the_edit(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.edit(checkpoint={"checkpoint_interval": "2m"})
    await world.pass_time(150)
    assert len(world.checkpoints.history) == 1


async def test_checkpointbackups_that_nobody_needs_are_deleted(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "1m"})
    await world.running(1)
    await world.pass_time(600)
    assert len(world.checkpoints.history) >= 8
    assert len(world.checkpoints.backups) <= 4


async def test_a_training_that_reports_no_progress_is_never_a_source(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "2m"})
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    job = world.cluster.job_of(0)
    world.checkpoints.stalled = 55.0
    world.cluster.progress = lambda job: 55.0  # type: ignore[method-assign]
    await world.until(lambda: world.documents.told("Stalled"))
    made = len(world.checkpoints.history)
    await world.pass_time(600)
    assert len(world.checkpoints.history) == made
    assert job.key in world.cluster.jobs


async def test_a_cycle_costs_a_handful_of_events(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    before = (await world.handle.describe()).history_length
    await world.pass_time(3600)
    grown = (await world.handle.describe()).history_length - before
    assert grown < 1000, f"{grown} events an hour"


async def test_a_node_that_is_soon_ready_is_taken_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "READY_SECONDS", 3.1)
    ready_at: list[datetime] = []
    set_ready = world.cluster.set_ready

    def set_and_note(name: str, ready: bool) -> None:
        ready_at.append(world.clock.now)
        set_ready(name, ready)

    monkeypatch.setattr(world.cluster, "set_ready", set_and_note)
    await world.submit(replicas=1)
    await world.running(1)
    assert (world.of("create_replica")[0].at - ready_at[0]).total_seconds() < 1.5
