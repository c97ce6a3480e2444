"""What a job costs in Temporal's billed actions: idle, for a checkpoint, a start and a preemption."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from api.timings import Timings
from tests.workflows.actions import actions, table
from tests.workflows.world import World
from workflows.job.policy import status_writes

HOURS = 24
QUIET = status_writes.QUIET
NEVER = {"checkpointInterval": "240h"}


@pytest.fixture(autouse=True)
def quiet(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect changes of the status as the product does."""
    monkeypatch.setattr(status_writes, "QUIET", QUIET)


async def _count(world: World, story: Callable[[], Awaitable[None]]) -> Counter[str]:
    begin: datetime = world.clock.now
    await story()
    return actions(world, begin, world.clock.now)


def _at_most(most: float, counted: Counter[str], per: float = 1) -> None:
    assert sum(counted.values()) / per <= most, f"{sum(counted.values()) / per:.1f}, not {most}\n{table(counted)}"


async def _trains(world: World, **checkpoint: str) -> None:
    world.cluster.steps = 10**9
    world.documents.timings = Timings(preempted_poll=0)
    await world.submit(replicas=2, checkpoint=checkpoint or NEVER)
    await world.running(2)
    await world.pass_time(60)


async def test_an_idle_job_of_two_bought_machines_costs_twelve_an_hour(world: World) -> None:
    await _trains(world)
    await world.pass_time(3600)
    counted = await _count(world, lambda: world.pass_time(HOURS * 3600))
    _at_most(12, counted, per=HOURS)


async def test_a_checkpoint_costs_six(world: World) -> None:
    await _trains(world, checkpointInterval="10m")
    await world.pass_time(3600)
    made = len(world.checkpoints.history)
    counted = await _count(world, lambda: world.pass_time(HOURS * 3600))
    made = len(world.checkpoints.history) - made
    assert made >= 6 * HOURS - 2
    _at_most(6 + 12 / 6, counted, per=made)  # with what an idle job costs anyway, of which there are six an hour


async def test_a_start_on_two_bought_machines_costs_eighty(world: World) -> None:
    _at_most(80, await _count(world, lambda: _trains(world)))


async def test_a_start_on_two_free_gpus_writes_the_status_three_times(world: World) -> None:
    """Once all checks are answered, and when each replica runs."""
    world.cluster.add_node("gpu-a")
    world.cluster.add_node("gpu-b")
    counted = await _count(world, lambda: _trains(world))
    assert counted["SpotInstanceJob: report"] <= 3, table(counted)
    _at_most(25, counted)


async def test_a_preemption_costs_sixty(world: World) -> None:
    await _trains(world)
    await world.pass_time(1800)

    async def lost() -> None:
        world.notice(0)
        await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
        await world.pass_time(120)

    _at_most(60, await _count(world, lost))
