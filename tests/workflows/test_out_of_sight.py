"""Nothing was ever checkpointed, and the survivor's node is NotReady just now: the job waits for it."""

from tests.workflows.world import World

GRACE = 600.0


async def lost_while_the_survivor_is_silent(world: World) -> str:
    """Lose a machine while the survivor is unreachable, and return the survivor's node."""
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(200)
    node = world.node_of(1)
    world.cluster.set_ready(node, False)
    world.notice(0)
    await world.until(lambda: "to be Ready again" in (world.entry(0).message or ""))
    assert node in (world.entry(0).message or "")
    assert world.phase(0) == "Restoring"
    return node


async def test_a_survivor_that_comes_back_is_checkpointed(world: World) -> None:
    node = await lost_while_the_survivor_is_silent(world)
    await world.pass_time(100)
    assert world.phase(0) == "Restoring"
    world.cluster.set_ready(node, True)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.job(0, 1).request.restore.lineage == "1.0"
    assert world.job(0, 1).pod.base >= 200
    assert world.documents.told("ColdStart") == []
    assert world.entry(1).incarnation == 0


async def test_that_it_came_back_is_found_without_a_word(world: World) -> None:
    node = await lost_while_the_survivor_is_silent(world)
    world.bridge.lost = {"node_changed"}
    world.cluster.set_ready(node, True)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=GRACE)
    assert world.job(0, 1).request.restore.lineage == "1.0"


async def test_a_survivor_that_stays_away_is_not_waited_for_without_end(world: World) -> None:
    await lost_while_the_survivor_is_silent(world)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.phase(0) == "Running", within=GRACE + 60)
    assert world.job(0, 1).request.restore is None
    assert world.documents.told("ColdStart")
    await world.running(2)


async def test_a_survivor_that_is_gone_is_not_waited_for(world: World) -> None:
    node = await lost_while_the_survivor_is_silent(world)
    world.cloud.power_off(node)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.phase(0) == "Running", within=120)
    assert world.job(0, 1).request.restore is None
