"""A training that reports progress and then stalls is restarted after the time that the job names."""

import pytest

from tests.chaos.stage import OUTAGES
from tests.workflows.world import World

MINUTES = 60.0
HOUR = 3600.0


def progressing(world: World) -> tuple[str, str]:
    condition = world.documents.condition("Progressing")
    return (condition.status, condition.message or "") if condition else ("", "")


async def saved(world: World, images: int = 1, **spec: object) -> None:
    """Submit the job, and wait for so many images."""
    await world.submit(**{"replicas": 1, "stallTimeout": "20m", **spec})
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) == images, within=2 * HOUR)


async def test_it_goes_on_from_what_was_saved_before_it_stood_still(world: World) -> None:
    """The second image contains the stall."""
    await saved(world)
    await world.pass_time(590)
    world.cluster.hang(world.job(0, 0))
    stood_at = world.clock.now
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) == 2, within=45)
    await world.until(lambda: progressing(world)[0] == "False", within=18 * MINUTES)
    assert "reported 116" in progressing(world)[1]
    await world.until(lambda: world.training() == [(0, 1)], within=20 * MINUTES)
    assert 20 * MINUTES <= (world.clock.now - stood_at).total_seconds() <= 28 * MINUTES
    assert world.checkpoints.history[0].tag in world.job(0, 1).request.restore.label
    await world.until(lambda: progressing(world)[0] == "True", within=20 * MINUTES)
    assert world.entry(0).restarts == 1
    assert len(world.cloud.created) == 1
    await world.pass_time(2 * HOUR)
    assert world.training() == [(0, 1)]


async def test_without_a_stall_timeout_six_hours_are_borne(world: World) -> None:
    await saved(world, stallTimeout=None)
    world.cluster.hang(world.job(0, 0))
    await world.pass_time(5.5 * HOUR)
    assert world.training() == [(0, 0)]
    assert progressing(world)[0] == "False"
    await world.until(lambda: world.training() == [(0, 1)], within=2.5 * HOUR)


async def test_a_timeout_of_zero_is_none(world: World) -> None:
    await saved(world, stallTimeout="0s")
    world.cluster.hang(world.job(0, 0))
    await world.pass_time(9 * HOUR)
    assert world.training() == [(0, 0)]


async def test_a_training_that_reports_nothing_stands_nowhere(world: World) -> None:
    await saved(world, stallTimeout=None, checkpoint={"progress": None})
    world.cluster.hang(world.job(0, 0))
    await world.pass_time(9 * HOUR)
    assert world.training() == [(0, 0)]


async def test_an_edit_counts_at_once(world: World) -> None:
    await saved(world, stallTimeout=None)
    world.cluster.hang(world.job(0, 0))
    await world.pass_time(HOUR)
    world.documents.edit(stall_timeout="10m")
    await world.until(lambda: world.training() == [(0, 1)], within=20 * MINUTES)


async def test_only_the_one_that_stands_still_is_restarted(world: World) -> None:
    await saved(world, replicas=2)
    world.cluster.hang(world.job(1, 0))
    await world.until(lambda: (1, 1) in world.training(), within=30 * MINUTES)
    assert world.training() == [(0, 0), (1, 1)]
    restore = world.job(1, 1).request.restore
    assert restore is not None
    assert restore.lineage == "0.0"
    assert restore.progress > 1500, "from where its sibling is by now"


async def test_a_dump_that_takes_long_is_no_standstill(world: World) -> None:
    world.checkpoints.dump_seconds = 400
    await world.submit(replicas=1, stallTimeout="5m")
    await world.pass_time(600)
    world.cluster.hang(world.job(0, 0))
    await world.pass_time(400)
    job = world.job(0, 0)
    assert job.pod is not None
    job.pod.stands_at = None  # its dump is done
    await world.pass_time(HOUR)
    assert world.training() == [(0, 0)]


async def test_an_image_that_only_stands_still_is_no_restart(world: World) -> None:
    """The training had begun to hang before its image was made, and reported that later."""
    await saved(world, images=2)
    newest = world.checkpoints.history[1].wanted_image()
    world.cluster.hung.add(newest)
    world.notice(0, 5)
    await world.until(lambda: (0, 1) in world.training(), within=15 * MINUTES)
    assert newest in world.job(0, 1).request.restore.label
    await world.until(lambda: (0, 3) in world.training(), within=2 * HOUR)
    assert world.checkpoints.history[0].wanted_image() in world.job(0, 3).request.restore.label
    await world.pass_time(HOUR)
    assert world.training() == [(0, 3)]
    assert world.entry(0).restarts == 0


async def test_a_hang_at_the_same_step_each_time_uses_up_its_restarts(world: World) -> None:
    world.cluster.hangs_at = 1000
    await world.submit(replicas=1, stallTimeout="10m")
    await world.until(lambda: world.documents.condition("Failed"), within=12 * HOUR)
    assert world.entry(0).restarts == 4


async def test_a_training_that_saves_itself_is_restarted_too(world: World) -> None:
    await world.submit(
        replicas=1,
        stallTimeout="10m",
        checkpoint={
            "mode": "Application",
            "checkpointStorage": {"type": "gcs", "bucket": "b"},
        },
    )
    await world.running(1)
    await world.pass_time(600)
    world.cluster.hang(world.job(0, 0))
    await world.until(lambda: world.training() == [(0, 1)], within=20 * MINUTES)
    assert world.entry(0).restarts == 1


@pytest.mark.parametrize("away", ["the API server, which hands logs on", "the kubelets' logs"])
async def test_a_log_that_nobody_can_read_is_no_standstill(world: World, away: str) -> None:
    world.cluster.steps = 1e9
    await saved(world, stallTimeout=None, replicas=2)
    world.cluster.no_logs = away == "the kubelets' logs"
    world.down |= OUTAGES["kubernetes"] if away != "the kubelets' logs" else set()
    await world.pass_time(48 * HOUR)
    world.down.clear()
    world.cluster.no_logs = False
    await world.pass_time(8 * HOUR)
    assert world.training() == [(0, 0), (1, 0)]
    assert world.documents.told("ReplicaRestarts") == []


async def test_what_hung_while_nobody_could_read_it_is_restarted_soon_after(world: World) -> None:
    await saved(world)
    world.cluster.hang(world.job(0, 0))
    await world.pass_time(60)
    world.cluster.no_logs = True
    await world.pass_time(12 * HOUR)
    world.cluster.no_logs = False
    await world.until(lambda: world.training() == [(0, 1)], within=20 * MINUTES)
