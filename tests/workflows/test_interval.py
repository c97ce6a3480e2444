"""With checkpointInterval: auto the interval follows the duration of checkpoints and the loss rate."""

from itertools import pairwise

import pytest

from tests.workflows.world import World

AUTO = {"checkpointInterval": "auto"}


def between(world: World) -> list[float]:
    """List the seconds between the requests of the scheduled checkpoints."""
    return [(b.created_at - a.created_at).total_seconds() for a, b in pairwise(world.checkpoints.history)]


async def test_the_default_holds_until_a_checkpoint_is_measured_then_dalys_interval(world: World) -> None:
    world.checkpoints.dump_seconds = 80
    await world.submit(replicas=1, checkpoint=AUTO)
    await world.running(1)
    begun = world.clock.now
    await world.until(lambda: world.checkpoints.history, within=2000)
    assert (world.checkpoints.history[0].created_at - begun).total_seconds() < 1801
    await world.until(lambda: len(world.checkpoints.history) == 3, within=30_000)
    # 80 s, and a machine lost every 240 h or a little less often: quiet hours weigh little against the prior.
    assert between(world) == [pytest.approx(12_000, rel=0.13)] * 2
    told = world.documents.told("CheckpointInterval")
    assert "until a checkpoint is measured" in told[0]
    assert "takes 8" in told[1]
    assert len(told) == 2, "a change of a few per cent is not told"


async def test_where_the_market_does_not_answer_the_published_rate_holds(world: World) -> None:
    world.down.add("ask_hazard")
    world.checkpoints.dump_seconds = 80
    await world.submit(replicas=1, checkpoint=AUTO)
    await world.running(1)
    await world.until(lambda: len(world.checkpoints.history) == 2, within=30_000)
    assert between(world) == [pytest.approx(11_700, rel=0.05)]


async def test_losses_bring_the_next_checkpoint_nearer(world: World) -> None:
    world.checkpoints.dump_seconds = 60
    await world.submit(replicas=1, checkpoint=AUTO)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=2000)
    quiet = len(world.documents.told("CheckpointInterval"))
    for _ in range(4):
        await world.pass_time(300)
        world.notice(0)
        await world.running(0)
        await world.running(1)
    told = world.documents.told("CheckpointInterval")
    assert len(told) > quiet
    seconds = [float(message.split()[3]) for message in told[quiet - 1 :]]
    assert seconds == sorted(seconds, reverse=True)
    # Four losses against a prior of more than a day: one in about six hours, for which Daly's interval is 60 s.
    assert seconds[-1] == pytest.approx(1600, rel=0.15)
    count = len(world.checkpoints.history)
    await world.until(lambda: len(world.checkpoints.history) == count + 2, within=4000)
    assert between(world)[-1] == pytest.approx(seconds[-1], rel=0.2)


async def test_all_machines_lost_in_one_tick_are_one_loss(world: World) -> None:
    await world.submit(replicas=3, checkpoint=AUTO)
    await world.running(3)
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=2000)
    for replica in range(3):
        world.notice(replica, seconds=3)
    await world.running(0)
    await world.running(3)
    assert "lost every 23" in world.documents.told("CheckpointInterval")[-1]


async def test_back_to_a_duration_by_an_edit(world: World) -> None:
    await world.submit(replicas=1, checkpoint=AUTO)
    await world.running(1)
    world.documents.edit(checkpoint={"checkpoint_interval": "5m"})
    await world.until(lambda: len(world.checkpoints.history) == 3, within=1000)
    assert between(world) == [pytest.approx(300, abs=2)] * 2
