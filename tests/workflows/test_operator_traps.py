"""Whatever the checkpoint operator's traps do, the job still ends well."""

from datetime import timedelta

import pytest

from sandbox.checkpoint_operator.traps import FAIL, SILENT, SLOW
from tests.workflows.checkpoints import TRAPS
from tests.workflows.world import World

STEPS = 3000
TEN_MINUTES = timedelta(minutes=10)


async def ends_well(world: World) -> None:
    """Check that the training is done, the machines are gone, and no more is kept than retention allows."""
    done = lambda: (world.documents.condition("Completed") or world.documents.condition("Failed")) is not None  # noqa: E731
    await world.until(done, within=4 * STEPS, what="the end")
    assert world.documents.condition("Completed").status == "True"
    await world.ended()
    assert world.cloud.of_job(world.documents.start.job_id) == []
    assert len(world.checkpoints.backups) <= 4
    assert all(entry.restarts == 0 for entry in world.documents.status.job_statuses)


@pytest.mark.parametrize("trap", TRAPS)
async def test_scheduled_checkpoints_that_go_wrong(world: World, trap: str) -> None:
    """The first two go wrong; the third is restored from."""
    world.cluster.steps = STEPS
    world.checkpoints.plans = [trap, trap]
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) >= 1, within=STEPS)
    await world.pass_time(30)
    good = world.checkpoints.history[-1]
    world.notice(0, seconds=3)
    await world.running(0)
    await world.running(1, within=1800)
    assert world.job(0, 1).pod.base > 0, "from the last good one, not from the beginning"
    assert good.tag in world.job(0, 1).request.restore.label or trap == SLOW
    await ends_well(world)


@pytest.mark.parametrize("trap", TRAPS)
async def test_the_survivors_checkpoint_that_goes_wrong(world: World, trap: str) -> None:
    """On a preemption the survivor is checkpointed twice, and the second checkpoint helps."""
    world.cluster.steps = STEPS
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "1h"})
    await world.running(2)
    await world.pass_time(100)
    world.checkpoints.plans = [trap]
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=2400)
    assert world.job(0, 1).pod.base > 90
    if trap != SLOW:
        assert len(world.checkpoints.history) == 2
        assert world.documents.told("CheckpointFailed")
    await ends_well(world)


@pytest.mark.parametrize("trap", [SILENT, FAIL])
async def test_an_operator_that_never_does_it(world: World, trap: str) -> None:
    """No checkpoint is ever made. A lost machine costs all work of its replica, and the training still ends."""
    world.cluster.steps = STEPS
    world.checkpoints.plans = [trap] * 100
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    await world.pass_time(700)
    world.notice(0)
    await world.running(0)
    await world.running(1)
    assert world.job(0, 1).pod.base == 0
    await ends_well(world)


async def test_a_second_survivor_is_asked_where_the_first_ones_node_does_not_do_it(world: World) -> None:
    world.cluster.steps = STEPS
    await world.submit(replicas=3, checkpoint={"checkpointInterval": "1h"})
    await world.running(3)
    await world.pass_time(100)
    world.checkpoints.plans = [SILENT]
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 3)
    first, second = world.checkpoints.history
    assert {first.replica, second.replica} == {1, 2}
    await ends_well(world)


async def test_a_node_that_is_busy_with_anothers_checkpoint_is_waited_for(world: World) -> None:
    world.cluster.steps = STEPS
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5m"})
    await world.running(1)
    world.checkpoints.busy_until = world.clock.now + TEN_MINUTES
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=900)
    assert world.documents.told("CheckpointFailed") == []
    assert world.checkpoints.history[0].created_at >= world.checkpoints.busy_until
    await ends_well(world)


async def test_a_survivors_node_that_is_busy_for_long_costs_no_more_than_a_start(world: World) -> None:
    world.cluster.steps = STEPS
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "5m"})
    await world.running(2)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.pass_time(100)
    world.checkpoints.busy_until = world.clock.now + TEN_MINUTES
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=500)
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label
    await ends_well(world)


async def test_a_stub_of_the_crd_is_refused_before_money_is_spent_and_then_mended(world: World) -> None:
    world.cluster.steps = STEPS
    world.documents.failing_checks = {"CheckpointOperatorReady"}
    await world.submit(replicas=1)
    await world.pass_time(600)
    assert world.documents.condition("CheckpointOperatorReady").status == "False"
    assert world.cloud.created == []
    world.documents.failing_checks = set()
    await world.running(1, within=900)
    await ends_well(world)
