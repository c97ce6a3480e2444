"""A notice is long enough to dump the dying replica itself: what that saves, and that a failure costs nothing."""

import pytest

from tests.workflows.documents import VM_SPEC
from tests.workflows.world import World
from workflows.common import continue_as_new as history

NOTICE = 120.0
LATEST = NOTICE + 30  # as long as the soft off waits


async def running(world: World, replicas: int, **spec: object) -> None:
    """Start replicas on machines with two minutes of notice, with one checkpoint made and measured."""
    gcp = VM_SPEC.gcp.model_copy(update={"preemption_notice_duration": "120s"})
    world.documents.vm_spec = VM_SPEC.model_copy(update={"gcp": gcp})
    await world.submit(replicas=replicas, **spec)
    await world.running(replicas)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.pass_time(230)


def progress(world: World, replica: int) -> float:
    return world.cluster.progress(world.cluster.job_of(replica))


async def recovered(world: World, *replicas: int) -> None:
    await world.until(
        lambda: all(world.entry(each).incarnation == 1 and world.phase(each) == "Running" for each in replicas)
    )


def asked(world: World) -> list[int]:
    """List the replicas that were checkpointed since the first checkpoint."""
    return [call.request.replica for call in world.of("create_checkpoint")[1:]]


async def test_what_fits_into_the_notice_is_saved_whole(world: World) -> None:
    await running(world, 2)
    world.cluster.job_of(0).pod.base += 500  # it has more progress than its sibling
    before, noticed_at = progress(world, 0), world.clock.now
    node = world.notice(0, LATEST)
    await recovered(world, 0)
    assert sorted(asked(world)) == [0, 1]  # not itself again: its sibling trains on, with as much progress
    assert all((call.at - noticed_at).total_seconds() < 3 for call in world.of("create_checkpoint")[1:])
    assert world.job(0, 1).request.restore.lineage == "0.0"
    assert world.job(0, 1).pod.base >= before
    assert world.documents.told("NoticeUsed")
    # It would train everything after that twice, so it is not left to train until its machine goes.
    assert (world.clock.now - noticed_at).total_seconds() < 60
    await world.until(lambda: node not in world.cloud.instances, within=NOTICE - 60)


@pytest.mark.parametrize("runs", ["in one run", "in several"])
async def test_what_is_trained_after_the_dump_is_saved_at_the_last_moment(
    world: World, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running(world, 1)
    world.machines.ssh_closed = True  # on the new machine, until the old one is gone
    noticed_at = world.clock.now
    world.notice(0, LATEST)
    await world.pass_time(40)
    if runs == "in several":
        before = await world.handle.describe()
        monkeypatch.setattr(history, "EVENTS", 60)
        monkeypatch.setattr(history, "EVENTS_IN_RECOVERY", 60)
        world.documents.edit()
        await world.pass_time(20)
        assert (await world.handle.describe()).run_id != before.run_id
        monkeypatch.undo()
    await world.pass_time(LATEST - (world.clock.now - noticed_at).total_seconds())
    world.machines.ssh_closed = False
    await recovered(world, 0)
    first, last = world.of("create_checkpoint")[1:]
    assert (first.at - noticed_at).total_seconds() < 3
    # 120 s, less a checkpoint of 8 s with its margin of a quarter and five seconds
    assert (last.at - noticed_at).total_seconds() == pytest.approx(NOTICE - 15, abs=3)
    gained = world.checkpoints.history[-1].progress - world.checkpoints.history[-2].progress
    assert gained > 90
    assert world.checkpoints.history[-1].tag in world.job(0, 1).request.restore.label


async def test_a_machine_that_is_ready_waits_for_a_last_dump_that_is_worth_it(world: World) -> None:
    await running(world, 1)
    noticed_at = world.clock.now
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert len(world.of("create_checkpoint")) == 3
    assert world.checkpoints.history[-1].tag in world.job(0, 1).request.restore.label
    assert (world.clock.now - noticed_at).total_seconds() < 90


async def test_a_last_dump_that_is_late_costs_no_more_than_it_saves(world: World) -> None:
    await running(world, 1)
    world.notice(0, LATEST)
    await world.until(lambda: len(world.checkpoints.registry) == 2)
    world.checkpoints.slow[0] = 400
    await recovered(world, 0)
    assert world.checkpoints.history[1].tag in world.job(0, 1).request.restore.label


async def test_what_does_not_fit_is_left_to_the_survivor(world: World) -> None:
    world.checkpoints.dump_seconds = 200
    await running(world, 2)
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert asked(world) == [1]
    assert world.job(0, 1).request.restore.lineage == "1.0"
    assert "200 s" in world.documents.told("NoticeTooShort")[0]


async def test_a_dump_that_is_late_leaves_the_survivors(world: World) -> None:
    await running(world, 2)
    world.checkpoints.slow[0] = 400
    noticed_at = world.clock.now
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert sorted(asked(world)) == [0, 1]
    assert world.job(0, 1).request.restore.lineage == "1.0"
    # The survivor's image contains as much, so nobody waits until the other's machine is gone, only for its pod: 90 s.
    assert (world.clock.now - noticed_at).total_seconds() < NOTICE
    await world.until(lambda: world.documents.told("CheckpointFailed"))


async def test_a_dump_that_is_late_is_waited_for_no_longer_than_its_machine_lives(world: World) -> None:
    await running(world, 2)
    replica = world.checkpoints.history[0].replica
    world.checkpoints.slow = {replica: 400, 1 - replica: 400}
    noticed_at = world.clock.now
    world.notice(replica, LATEST)
    await world.until(lambda: world.documents.told("CheckpointFailed"))
    assert (world.clock.now - noticed_at).total_seconds() < LATEST + 15
    await recovered(world, replica)
    assert world.job(replica, 1).request.restore.lineage == f"{1 - replica}.0"


async def test_a_survivor_lost_in_its_checkpoint_leaves_the_dying_ones(world: World) -> None:
    await running(world, 2)
    world.checkpoints.slow[1] = 300
    before = progress(world, 0)
    world.notice(0, LATEST)
    await world.until(lambda: len(world.checkpoints.history) == 3)
    world.notice(1, 20)
    await recovered(world, 0, 1)
    assert world.job(0, 1).request.restore.lineage == "0.0"
    assert all(world.job(each, 1).pod.base >= before for each in (0, 1))


async def test_a_single_replica_is_saved_whole(world: World) -> None:
    await running(world, 1)
    before = progress(world, 0)
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert world.job(0, 1).request.restore.lineage == "0.0"
    assert world.job(0, 1).pod.base >= before


async def test_a_single_replica_that_was_never_checkpointed_is_tried(world: World) -> None:
    gcp = VM_SPEC.gcp.model_copy(update={"preemption_notice_duration": "120s"})
    world.documents.vm_spec = VM_SPEC.model_copy(update={"gcp": gcp})
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(100)
    before = progress(world, 0)
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert world.job(0, 1).pod.base >= before


async def test_a_single_replica_whose_dump_is_late_goes_on_from_the_image_before(world: World) -> None:
    await running(world, 1)
    world.checkpoints.dump_seconds = 400
    noticed_at = world.clock.now
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert len(world.checkpoints.history) == 2
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label
    assert (world.clock.now - noticed_at).total_seconds() < LATEST + 60


async def test_a_dump_that_fails_is_made_anew_where_that_still_fits(world: World) -> None:
    await running(world, 1)
    world.checkpoints.plans = ["fail"]
    before = progress(world, 0)
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert world.job(0, 1).pod.base >= before
    reasons = [record.partition("(")[2].partition(")")[0] for record in world.documents.told("CheckpointCompleted")]
    assert "NoticeAgain" in reasons


async def test_a_dump_that_fails_twice_is_left_at_that(world: World) -> None:
    await running(world, 1)
    world.checkpoints.plans = ["fail", "fail"]
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label
    assert len(world.checkpoints.history) == 3


async def test_a_machine_that_goes_before_its_time_is_not_asked_again(world: World) -> None:
    await running(world, 1)
    world.checkpoints.dump_seconds = 60
    noticed_at = world.clock.now
    world.notice(0, seconds=20)
    await recovered(world, 0)
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label
    assert len(world.checkpoints.history) == 2
    assert (world.clock.now - noticed_at).total_seconds() < 90


async def test_a_single_replica_whose_checkpoints_never_fit_is_not_tried(world: World) -> None:
    world.checkpoints.dump_seconds = 200
    await running(world, 1)
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert asked(world) == []
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label


@pytest.mark.parametrize("apart", [0, 3])
async def test_both_noticed_are_both_saved(world: World, apart: float) -> None:
    await running(world, 2)
    before = max(progress(world, each) for each in (0, 1))
    world.notice(0, LATEST)
    if apart:
        await world.pass_time(apart)
    world.notice(1, LATEST)
    await recovered(world, 0, 1)
    assert set(asked(world)) == {0, 1}
    assert all(world.job(each, 1).pod.base >= before for each in (0, 1))
    assert len(world.documents.told("Preempted")) == 2


async def test_without_a_notice_of_its_own_a_machine_is_left_to_the_survivor(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.pass_time(200)
    world.notice(0)
    await recovered(world, 0)
    assert asked(world) == [1]
    assert world.documents.told("NoticeTooShort") == []


async def test_a_persons_word_on_the_time_that_is_left_counts(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.pass_time(200)
    before = progress(world, 0)
    await world.notice_by_hand(replica=0, seconds=300)
    await recovered(world, 0)
    assert world.job(0, 1).pod.base >= before


@pytest.mark.parametrize("lost", ["preemption_notice", "node_changed"])
async def test_the_time_that_is_left_comes_by_whatever_way_the_notice_came(world: World, lost: str) -> None:
    world.bridge.lost = {lost}
    await running(world, 1)
    before = progress(world, 0)
    world.notice(0, LATEST)
    await recovered(world, 0)
    assert world.job(0, 1).pod.base >= before


async def test_a_mark_that_was_told_late_leaves_less_time(world: World) -> None:
    """The bridge was away: of two minutes 20 s are left, and a checkpoint takes 60 s."""
    world.checkpoints.dump_seconds = 60
    await running(world, 2)
    world.bridge.lost = {"preemption_notice", "node_changed"}
    node = world.notice(0, LATEST)
    await world.pass_time(100)
    world.bridge.lost = set()
    world.cluster.node_changed(node)
    await recovered(world, 0)
    assert asked(world) == [1]
