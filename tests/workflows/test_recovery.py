"""A machine is lost: from what its replica starts again, and in which order things happen."""

import pytest

from sandbox.checkpoint_operator.traps import FAIL, NO_IMAGE, SILENT, STICK
from tests.workflows.documents import REPOSITORY
from tests.workflows.world import World


async def two_running(world: World, **spec: object) -> None:
    await world.submit(replicas=2, **spec)
    await world.running(2)


def lose_both(world: World) -> None:
    """Lose both machines before any checkpoint can be made."""
    world.notice(0, seconds=3)
    world.notice(1, seconds=3)


async def test_the_survivor_is_checkpointed_and_a_machine_bought_side_by_side(world: World) -> None:
    await two_running(world)
    await world.pass_time(200)
    noticed_at = world.clock.now
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    asked = world.of("create_checkpoint")[0]
    bought = world.of("create_vm")[2]
    assert (asked.at - noticed_at).total_seconds() < 3
    assert (bought.at - noticed_at).total_seconds() < 3
    assert asked.request.replica == 1


async def test_the_replica_is_restored_from_the_survivors_image(world: World) -> None:
    await two_running(world)
    await world.pass_time(200)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    restored = world.job(0, 1)
    assert restored.request.restore.lineage == "1.0"
    assert "@sha256:" in restored.request.restore.label
    assert restored.pod.base >= 199
    await world.until(lambda: world.documents.condition("CheckpointsProven").status == "True", within=90)
    assert world.entry(0).preemptions == 1
    assert world.entry(0).restarts == 0


async def test_the_old_job_goes_only_after_the_new_one_on_a_ready_node(world: World) -> None:
    await two_running(world)
    old_node = world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    old, new = world.job(0, 0), world.job(0, 1)
    deletions = [c for c in world.of("stop_replica") if c.request.ref.incarnation == 0 and c.request.delete_job]
    assert new.created_at <= deletions[0].at
    assert old.gone_at is not None
    await world.until(lambda: old_node in world.cluster.nodes_gone)
    assert world.cloud.gone[old_node] <= world.cluster.nodes_gone[old_node]


async def test_a_free_gpu_is_taken_for_a_lost_machine(world: World) -> None:
    await two_running(world)
    world.cluster.add_node("gpu-a")
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.node_of(0) == "gpu-a"
    assert len(world.cloud.created) == 2


async def test_both_noticed_restore_from_the_furthest_point_on_record(world: World) -> None:
    await two_running(world)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    lose_both(world)
    await world.until(lambda: world.active == 2 and world.training() == [(0, 1), (1, 1)])
    tag = world.checkpoints.history[0].tag
    assert all(tag in world.job(replica, 1).request.restore.label for replica in (0, 1))


async def test_without_a_point_on_record_the_registry_is_asked_for_our_tags(world: World) -> None:
    await two_running(world)
    job_id = world.documents.start.job_id
    world.checkpoints.push(f"{REPOSITORY}:{job_id}-p000000000077-1", 77)
    world.checkpoints.push(f"{REPOSITORY}:{job_id}-p000000000044-2", 44)
    world.checkpoints.push(f"{REPOSITORY}:0badcafe-p000000000999-3", 999)
    lose_both(world)
    await world.until(lambda: world.active == 2 and world.training() == [(0, 1), (1, 1)])
    assert world.job(0, 1).request.restore.progress == 77


async def test_nothing_was_ever_checkpointed_begins_anew(world: World) -> None:
    await two_running(world)
    lose_both(world)
    await world.until(lambda: world.active == 2 and world.training() == [(0, 1), (1, 1)])
    assert world.job(0, 1).request.restore is None
    assert world.documents.told("ColdStart")


async def test_unusable_points_hold_the_job_until_a_person_decides(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    image = world.checkpoints.history[0].image
    world.cluster.bad[image] = "CreateContainerError: CRIU refused"
    world.notice(0)
    await world.until(lambda: (c := world.documents.condition("Restorable")) and c.status == "False", within=1800)
    await world.pass_time(900)
    assert world.training() == []
    assert "onUnrestorable" in world.documents.condition("Restorable").message
    await world.pass_time(7200)
    assert world.cloud.instances == {}
    bought = len(world.cloud.created)
    world.documents.edit(checkpoint={"on_unrestorable": "ColdStart"})
    await world.running(1)
    assert len(world.cloud.created) == bought + 1
    assert world.cluster.job_of(0).request.restore is None
    assert world.documents.condition("Restorable").status == "True"


async def test_an_image_that_does_not_start_on_two_nodes_is_passed_over(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) == 2)
    newest = world.checkpoints.history[1].image
    world.cluster.bad[newest] = "CreateContainerError: CRIU refused"
    world.notice(0)
    await world.running(0)
    await world.running(1, within=1800)
    tried = [job for job in world.cluster.history.values() if job.request.restore]
    of_newest = [job for job in tried if newest in job.request.restore.label]
    assert (
        len({job.pod.node for job in of_newest if job.pod} | {n for job in of_newest for n in job.request.nodes}) == 2
    )
    assert world.checkpoints.history[0].tag in tried[-1].request.restore.label


async def test_an_image_that_the_registry_has_no_more_is_passed_over_on_the_same_machine(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) == 2)
    world.cluster.bad[world.checkpoints.history[1].image] = "ImagePullBackOff: manifest unknown"
    world.notice(0)
    await world.running(0)
    await world.running(1)
    assert world.checkpoints.history[0].tag in world.cluster.job_of(0).request.restore.label
    assert len(world.cloud.created) == 2


async def test_a_pull_that_is_refused_waits_and_condemns_no_image(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    image = world.checkpoints.history[0].image
    world.cluster.bad[image] = "ImagePullBackOff: 401 Unauthorized"
    world.notice(0)
    await world.until(lambda: "ImagePullBackOff" in (world.entry(0).message or ""))
    await world.pass_time(1500)
    assert len(world.cloud.created) <= 5, "a VM that waits is given back, and the next is bought ever later"
    world.cluster.bad.clear()
    await world.running(1, within=3700)
    assert (world.entry(0).restored_from or "").startswith(image)


async def test_progress_decides_and_not_time(world: World) -> None:
    """A replica restored from an older image trains behind, so its later image contains less."""
    await two_running(world)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.checkpoints.plans = [FAIL, FAIL]
    world.notice(1)  # restored from the record, because the survivor's checkpoints fail: it trains behind now
    await world.until(lambda: world.entry(1).incarnation == 1 and world.active == 2)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    points = [b for b in world.checkpoints.history if b.phase == "Completed"]
    best = max(points, key=lambda backup: backup.progress)
    assert best.tag in world.job(0, 1).request.restore.label


async def test_a_failing_checkpoint_is_tried_a_second_time(world: World) -> None:
    await two_running(world)
    await world.pass_time(100)
    world.checkpoints.plans = [FAIL]
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert len(world.checkpoints.history) == 2
    assert world.checkpoints.history[1].tag in world.job(0, 1).request.restore.label


async def test_two_failing_checkpoints_fall_back_to_the_older_image(world: World) -> None:
    await two_running(world)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.pass_time(200)  # each source has trained for longer since its checkpoint than a dump takes
    world.checkpoints.plans = [FAIL, NO_IMAGE]
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert len(world.checkpoints.history) == 3
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label


async def test_a_checkpoint_that_sticks_is_given_up_and_made_anew(world: World) -> None:
    await two_running(world)
    await world.pass_time(100)
    world.checkpoints.plans = [STICK]
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=2400)
    assert any("is stuck in phase" in message for message in world.documents.told("CheckpointFailed"))
    assert world.checkpoints.history[1].tag in world.job(0, 1).request.restore.label


async def test_a_checkpoint_that_no_operator_takes_up_is_made_anew(world: World) -> None:
    await two_running(world)
    await world.pass_time(100)
    world.checkpoints.plans = [SILENT]
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert any("(none)" in message for message in world.documents.told("CheckpointFailed"))


async def test_a_slow_checkpoint_is_not_mistaken_for_a_stuck_one(world: World) -> None:
    await two_running(world)
    world.checkpoints.dump_seconds = 470  # the first phase appears a second before its deadline
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.documents.told("CheckpointFailed") == []


async def test_completed_without_an_image_is_a_failure(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.checkpoints.plans = [NO_IMAGE]
    await world.until(lambda: world.documents.told("CheckpointFailed"))
    assert world.documents.told("CheckpointCompleted") == []


async def test_the_survivor_noticed_while_its_checkpoint_runs_is_still_used_where_it_ends_in_time(world: World) -> None:
    await two_running(world)
    await world.pass_time(100)
    world.notice(0)
    await world.until(lambda: world.checkpoints.history)
    world.notice(1)
    await world.until(lambda: world.active == 2 and world.training() == [(0, 1), (1, 1)])
    assert len(world.checkpoints.history) == 1
    tag = world.checkpoints.history[0].tag
    assert all(tag in world.job(replica, 1).request.restore.label for replica in (0, 1))


async def test_the_survivor_lost_while_its_checkpoint_runs_leaves_the_older_image(world: World) -> None:
    world.checkpoints.dump_seconds = 101
    await two_running(world)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.pass_time(130)
    world.notice(0)
    await world.until(lambda: len(world.checkpoints.history) == 2)
    world.notice(1, seconds=5)
    await world.until(lambda: world.active == 2 and world.training() == [(0, 1), (1, 1)])
    tag = world.checkpoints.history[0].tag
    assert all(tag in world.job(replica, 1).request.restore.label for replica in (0, 1))


async def test_a_young_checkpoint_spares_the_survivor_another_dump(world: World) -> None:
    await two_running(world)
    world.checkpoints.dump_seconds = 60
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.notice(0 if world.checkpoints.history[0].replica == 1 else 1)
    await world.running(1)
    await world.running(2)
    assert len(world.checkpoints.history) == 1


async def test_a_checkpoint_under_way_serves_the_recovery_too(world: World) -> None:
    await two_running(world)
    world.checkpoints.dump_seconds = 60
    await world.until(lambda: world.checkpoints.history)
    source = world.checkpoints.history[0].replica
    world.notice(1 - source)
    await world.running(1)
    await world.running(2)
    assert len(world.checkpoints.history) == 1
    assert world.checkpoints.history[0].tag in world.job(1 - source, 1).request.restore.label


async def test_a_named_image_is_what_a_job_starts_from(world: World) -> None:
    image = f"{REPOSITORY}:yesterday"
    world.checkpoints.push(image, 500)
    await world.submit(replicas=2, checkpoint={"restoreFrom": image})
    await world.running(2)
    assert [job.pod.base for job in world.cluster.training()] == [500, 500]


async def test_a_named_image_that_is_not_there_holds_the_job(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"restoreFrom": f"{REPOSITORY}:nowhere"})
    await world.until(lambda: world.documents.condition("Restorable"))
    assert "restoreFrom" in world.documents.condition("Restorable").message
    image = f"{REPOSITORY}:yesterday"
    world.checkpoints.push(image, 500)
    world.documents.edit(checkpoint={"restore_from": image})
    await world.running(1)


async def test_latest_tag_takes_the_tag_created_last(world: World) -> None:
    world.checkpoints.push(f"{REPOSITORY}:far", 900)
    await world.pass_time(10)
    world.checkpoints.push(f"{REPOSITORY}:late", 300)
    await world.submit(replicas=1, checkpoint={"restoreFrom": "LatestTag"})
    await world.running(1)
    assert world.cluster.training()[0].pod.base == 300


async def test_latest_tag_of_an_empty_repository_begins_at_the_beginning(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"restoreFrom": "LatestTag"})
    await world.running(1)
    assert world.cluster.training()[0].pod.base == 0


async def test_a_registry_that_does_not_answer_is_waited_for(world: World) -> None:
    await two_running(world)
    lose_both(world)
    world.checkpoints.registry_down = True
    await world.until(lambda: world.phase(0) == "Restoring" and world.phase(1) == "Restoring")
    await world.pass_time(400)
    assert world.training() == []
    world.checkpoints.registry_down = False
    await world.running(2)


async def lost_while_a_digest_is_asked_for(world: World) -> None:
    """Its second checkpoint has just ended, the registry does not answer, and a free GPU waits."""
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    world.cluster.add_node("gpu-a")
    world.down = {"tidy_checkpoints"}
    await world.until(lambda: len(world.checkpoints.history) == 2)
    await world.until(lambda: world.checkpoints.history[1].image in world.checkpoints.registry)
    world.notice(0, seconds=1)
    await world.until(lambda: world.of("find_capacity")[-1].at > world.checkpoints.history[1].created_at)
    await world.pass_time(1)


async def test_an_image_whose_digest_is_being_asked_for_is_restored_by_it(world: World) -> None:
    await lost_while_a_digest_is_asked_for(world)
    world.down = set()
    await world.until(lambda: world.training() == [(0, 1)], within=60)
    assert world.job(0, 1).request.restore.label.startswith(f"{world.checkpoints.history[1].image}@sha256:")


async def test_an_image_whose_digest_does_not_come_is_restored_by_its_tag(world: World) -> None:
    await lost_while_a_digest_is_asked_for(world)
    await world.until(lambda: world.training() == [(0, 1)], within=60)
    assert world.job(0, 1).request.restore.label == world.checkpoints.history[1].image


@pytest.mark.parametrize("code", [0, 143])
async def test_a_process_that_was_told_to_end_before_its_dump_ends_neither_job_nor_patience(
    world: World, code: int
) -> None:
    """Restored, it goes on ending: exit code 0 is then no success of the training, and 143 no failure."""
    world.cluster.sigterm_exit = code
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.until(lambda: len(world.checkpoints.history) == 2)
    world.cluster.delete_pod(world.job(0, 0))
    await world.until(lambda: world.training() == [(0, 2)])
    first, second = (backup.tag for backup in world.checkpoints.history[:2])
    assert second in world.job(0, 1).request.restore.label
    assert first in world.job(0, 2).request.restore.label
    assert world.entry(0).restarts == 0
    assert any("received SIGTERM" in message for message in world.documents.told("RestoreFailed"))
