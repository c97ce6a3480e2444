"""What has nothing to do still wakes by and by, so that it comes over to newer code."""

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
