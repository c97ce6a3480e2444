"""Idle workflows wake from time to time, so that they move to newer code, but no more often than they must."""

from datetime import UTC

from temporalio.api.enums.v1 import EventType

from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World

DAY = 86_400.0
MARKET = "market:p"


async def test_an_idle_market_goes_on_in_a_new_run_each_day(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.delete()
    await world.ended()
    before = await runs(world, MARKET)
    await world.env.sleep(2.5 * DAY)
    assert await runs(world, MARKET) == before + 2


async def test_a_job_that_only_trains_starts_one_timer_for_each_look(world: World) -> None:
    """All of its coroutines look at one moment, every five minutes, because a timer is a billed action."""
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "24h"})
    await world.running(2)
    await world.pass_time(3600)
    began, hours = world.clock.now, 6
    await world.pass_time(hours * 3600)
    started = [
        event
        for run in world.env.runs()
        if run.beginning.workflow_type == "SpotInstanceJob"
        for event in run.history.events
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED and event.event_time.ToDatetime(tzinfo=UTC) >= began
    ]
    assert len(started) <= hours * (12 + 2)
