"""A long notice to a machine of a gang: it trains on as long as a save allows, while the next machine is bought."""

from __future__ import annotations

import pytest

from tests.workflows import machines
from tests.workflows.documents import vm_spec
from tests.workflows.test_gang import MEMBERS, again, submitted, training
from tests.workflows.world import World

LONG = 120


@pytest.fixture(autouse=True)
def long_notices(world: World) -> None:
    world.documents.vm_spec = vm_spec(preemptionNoticeDuration=f"{LONG}s")


@pytest.fixture
def slow_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a Node be Ready only long after the notice has expired."""
    monkeypatch.setattr(machines, "READY_SECONDS", 200.0)


async def saved_once(world: World, **spec: object) -> list[str]:
    """Let a gang train that has saved itself before, so that it is known how long that takes; return its nodes."""
    await training(world, **spec)
    world.notice(0, seconds=LONG)
    nodes = await again(world, 1)
    await world.pass_time(300)
    return nodes


def stopped_at(world: World, incarnation: int) -> float:
    """Return when the pods of an incarnation were told to save themselves, in seconds of the world's clock."""
    stops = [call for call in world.of("stop_replica") if call.request.ref.incarnation == incarnation]
    return stops[0].at.timestamp()


async def test_the_first_save_is_made_at_once_because_nobody_knows_how_long_it_takes(world: World) -> None:
    await training(world)
    at = world.clock.now.timestamp()
    world.notice(0, seconds=LONG)
    await again(world, 1)
    assert stopped_at(world, 0) - at < 5


@pytest.mark.usefixtures("slow_machines")
async def test_it_trains_on_as_long_as_a_save_allows_while_a_machine_is_bought(world: World) -> None:
    before = await saved_once(world)
    at, bought = world.clock.now, len(world.of("create_vm"))
    steps = world.cluster.progress(world.job(0, 1))
    lost = world.notice(0, seconds=LONG, member=1)
    await world.pass_time(40)
    assert world.training() == [(0, 1)]
    assert len(world.of("create_vm")) == bought + 1, "the replacement is bought at once"
    assert f"{lost} will go: it trains until" in (world.entry(0).message or "")
    after = await again(world, 2)
    assert 80 < stopped_at(world, 1) - at.timestamp() < LONG - 20
    assert set(before) - set(after) == {lost}
    assert len(world.of("create_vm")) == bought + 1
    assert world.job(0, 2).request.restore.path == world.bucket.saved[-1].path
    assert world.bucket.saved[-1].progress - steps > 80, "it has trained meanwhile"
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (2, 0)


async def test_it_moves_as_soon_as_the_next_machine_is_ready(world: World) -> None:
    await saved_once(world)
    at = world.clock.now.timestamp()
    lost = world.notice(0, seconds=LONG, member=1)
    await world.until(lambda: world.of("stop_replica")[-1].at.timestamp() > at)
    ready = [name for name, node in world.cluster.nodes.items() if node.ready and name != lost]
    assert len(ready) == MEMBERS, "all machines of the next incarnation"
    assert stopped_at(world, 1) - at < 60
    after = await again(world, 2)
    assert set(after) == set(ready)


@pytest.mark.usefixtures("slow_machines")
@pytest.mark.parametrize("member", [2, 1], ids=["of another machine", "of the same machine"])
async def test_a_second_notice_that_leaves_less_is_used_at_once(world: World, member: int) -> None:
    before = await saved_once(world)
    world.notice(0, seconds=LONG, member=1)
    await world.pass_time(10)
    at = world.clock.now.timestamp()
    await world.notice_by_hand(node=before[member], source="maintenance", seconds=20)
    await again(world, 2)
    assert stopped_at(world, 1) - at < 5


@pytest.mark.usefixtures("slow_machines")
async def test_two_long_notices_are_one_stop(world: World) -> None:
    before = await saved_once(world)
    at = world.clock.now.timestamp()
    lost = {world.notice(0, seconds=LONG, member=1)}
    await world.pass_time(20)
    lost.add(world.notice(0, seconds=LONG, member=2))
    after = await again(world, 2)
    assert 80 < stopped_at(world, 1) - at < LONG - 20, "the first of them goes first"
    assert set(before) - set(after) == lost


@pytest.mark.usefixtures("slow_machines")
async def test_all_machines_may_go_at_once(world: World) -> None:
    before = await saved_once(world)
    for member in range(MEMBERS):
        world.notice(0, seconds=LONG, member=member)
    after = await again(world, 2)
    assert not set(before) & set(after)
    assert len({world.cluster.nodes[node].zone for node in after}) == 1


@pytest.mark.usefixtures("slow_machines")
async def test_a_machine_that_goes_before_its_time_ends_the_wait(world: World) -> None:
    world.cluster.gangs.fails_after = None
    before = await saved_once(world)
    world.bucket.save(world.job(0, 1))
    world.notice(0, seconds=LONG, member=1)
    await world.pass_time(5)
    at = world.clock.now.timestamp()
    world.cluster.machine_died(before[1])
    after = await again(world, 2)
    assert stopped_at(world, 1) - at < 60
    assert before[1] not in after


@pytest.mark.usefixtures("slow_machines")
async def test_another_machine_that_falls_silent_ends_the_wait(world: World) -> None:
    world.cluster.gangs.fails_after = None
    before = await saved_once(world)
    world.bucket.save(world.job(0, 1))
    world.notice(0, seconds=LONG, member=1)
    await world.pass_time(5)
    world.cluster.machine_died(before[2])
    after = await again(world, 2)
    assert set(before) & set(after) == {before[0]}


@pytest.mark.usefixtures("slow_machines")
async def test_a_deletion_meanwhile_leaves_nothing(world: World) -> None:
    await saved_once(world)
    world.notice(0, seconds=LONG, member=1)
    await world.pass_time(20)
    await world.delete()
    await world.ended()
    await world.nothing_left()


@pytest.mark.usefixtures("slow_machines")
async def test_suspended_meanwhile_it_releases_everything(world: World) -> None:
    await saved_once(world)
    world.notice(0, seconds=LONG, member=1)
    await world.pass_time(20)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    assert world.cloud.instances == {}


@pytest.mark.usefixtures("slow_machines")
async def test_an_elastic_gang_trains_on_and_then_with_fewer(world: World) -> None:
    sizes = {"minSize": 2, "maxSize": 3}
    await training(world, sizes=sizes)
    world.notice(0, seconds=LONG)
    await world.until(lambda: world.entry(0).incarnation == 2 and world.phase(0) == "Running", 900)
    await world.pass_time(300)
    at = world.clock.now.timestamp()
    lost = world.notice(0, seconds=LONG, member=1)
    smaller = await again(world, 3)
    assert 80 < stopped_at(world, 2) - at < LONG - 20
    assert len(smaller) == 2
    larger = await again(world, 4)
    assert len(larger) == 3
    assert lost not in larger


async def test_a_gang_that_was_suspended_while_it_was_bought_has_all_the_time_again(world: World) -> None:
    world.cloud.limits["us-central1-a"] = 2
    await submitted(world)
    await world.until(lambda: len(world.cloud.instances) == 2)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    await world.pass_time(1200)
    world.cloud.limits.clear()
    await world.signal("resume")
    await world.running(1)
    assert not world.documents.told("GangIncomplete")
