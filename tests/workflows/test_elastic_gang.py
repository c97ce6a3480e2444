"""An elastic gang: it goes on with fewer members while a machine is missing, and starts again larger with it."""

from __future__ import annotations

import pytest

from api.gang import Gang
from api.overview import overview
from tests.workflows import machines
from tests.workflows.documents import vm_spec
from tests.workflows.test_gang import again, submitted, training
from tests.workflows.world import World

TWO_TO_THREE = {"minSize": 2, "maxSize": 3}


@pytest.fixture(autouse=True)
def slow_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a Node be Ready as late as real ones are, so that waiting for it costs more than a start."""
    monkeypatch.setattr(machines, "READY_SECONDS", 200.0)


async def test_machines_that_come_soon_are_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "READY_SECONDS", 5.0)
    await training(world, sizes=TWO_TO_THREE)
    world.notice(0, member=1)
    assert len(await again(world, 1)) == 3


async def test_if_the_cloud_has_none_after_all_it_goes_on_smaller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "READY_SECONDS", 5.0)
    await training(world, sizes=TWO_TO_THREE)
    world.cloud.exhausted.add("us-central1-a")
    lost_at, lost = world.clock.now, world.notice(0, member=1)
    smaller = await again(world, 1)
    assert len(smaller) == 2
    assert lost not in smaller
    assert (world.clock.now - lost_at).total_seconds() < 120
    world.cloud.exhausted.clear()
    assert len(await again(world, 2, within=3600)) == 3


async def test_after_a_loss_it_goes_on_smaller_at_once_and_larger_later(world: World) -> None:
    before = await training(world, sizes=TWO_TO_THREE)
    assert len(before) == 3
    noticed_at, lost = world.clock.now, world.notice(0, member=1)
    smaller = await again(world, 1)
    assert set(smaller) == set(before) - {lost}
    assert (world.clock.now - noticed_at).total_seconds() < 60, "no machine was waited for"
    assert world.job(0, 1).request.members == 2
    assert "2 of 3 members" in (world.entry(0).message or "")
    await world.pass_time(31)  # phases are written up to half a minute late
    assert overview(world.documents.status).state == "Running 2/3 members"
    larger = await again(world, 2)
    assert len(larger) == 3
    assert set(smaller) < set(larger)
    assert world.job(0, 2).request.restore.path == world.bucket.saved[-1].path
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (1, 0)
    assert world.documents.told("GangSmaller")
    assert world.documents.told("GangLarger")


async def test_below_its_least_size_it_waits(world: World) -> None:
    before = await training(world, sizes=TWO_TO_THREE)
    lost = {world.notice(0, member=0), world.notice(0, member=1)}
    after = await again(world, 1)
    assert len(after) in {2, 3}
    assert set(before) & set(after) == set(before) - lost


async def test_only_sizes_of_the_step_are_taken(world: World) -> None:
    await training(world, members=6, sizes={"minSize": 2, "maxSize": 6, "step": 2})
    world.cloud.exhausted.add("us-central1-a")
    world.notice(0, member=5)
    smaller = await again(world, 1)
    assert len(smaller) == 4, "five machines are left"
    await world.pass_time(600)
    assert len(world.cloud.instances) == 5, "the fifth is kept for the next restart"
    world.cloud.exhausted.clear()
    assert len(await again(world, 2, within=3600)) == 6
    assert len(world.cloud.instances) == 6


async def test_what_a_zone_has_is_enough_to_begin_after_a_while(world: World) -> None:
    world.documents.vm_spec = vm_spec()
    world.cloud.limits["us-central1-a"] = 2
    await submitted(world, sizes=TWO_TO_THREE)
    await world.running(1, within=3600)
    assert len(world.nodes_of(0)) == 2
    world.cloud.limits.clear()
    assert len(await again(world, 1, within=7200)) == 3


async def test_a_spare_machine_that_is_lost_is_replaced(world: World) -> None:
    await training(world, sizes=TWO_TO_THREE)
    world.notice(0, member=0)
    smaller = await again(world, 1)
    await world.until(lambda: len(set(world.cloud.instances) - set(smaller)) == 1)
    [spare] = set(world.cloud.instances) - set(smaller)
    world.cloud.power_off(spare)
    larger = await again(world, 2, within=1800)
    assert spare not in larger


async def test_a_small_gang_that_is_deleted_leaves_nothing(world: World) -> None:
    await training(world, sizes=TWO_TO_THREE)
    world.notice(0, member=0)
    await again(world, 1)
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_a_small_gang_suspended_and_resumed_looks_for_all_again(world: World) -> None:
    await training(world, sizes=TWO_TO_THREE)
    world.notice(0, member=0)
    await again(world, 1)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    assert world.cloud.instances == {}
    await world.signal("resume")
    await world.until(lambda: world.phase(0) == "Running", 1800)
    assert len(world.nodes_of(0)) == 3


async def test_an_edit_makes_it_smaller_after_it_has_saved_itself(world: World) -> None:
    before = await training(world, members=4)
    world.documents.edit(gang=Gang(min_size=2, max_size=2))
    after = await again(world, 1)
    assert len(after) == 2
    assert set(after) < set(before)
    assert world.job(0, 1).request.restore.progress >= 120
    await world.until(lambda: len(world.cloud.instances) == 2, what="the others are released")
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (0, 0)


async def test_an_edit_makes_it_larger_once_all_machines_are_ready(world: World) -> None:
    before = await training(world, members=2)
    world.documents.edit(gang=Gang(min_size=4, max_size=4))
    await world.pass_time(150)
    assert world.training() == [(0, 0)], "it trains while the machines come"
    after = await again(world, 1)
    assert len(after) == 4
    assert set(before) < set(after)
    assert {world.cluster.nodes[node].zone for node in after} == {"us-central1-a"}


async def test_spare_machines_go_if_the_sizes_are_edited_meanwhile(world: World) -> None:
    await training(world, members=2)
    world.documents.edit(gang=Gang(min_size=2, max_size=3))
    await world.until(lambda: len(world.cloud.instances) == 3)
    world.documents.edit(gang=Gang(min_size=2, max_size=2))
    await world.until(lambda: len(world.cloud.instances) == 2)
    assert world.training() == [(0, 0)], "it is not disturbed"
