"""A gang on on-demand machines returns to spot: all at once, with what it has saved."""

from __future__ import annotations

from typing import Any

from api.market import Candidate
from tests.workflows.documents import vm_spec
from tests.workflows.test_gang import MEMBERS, again, submitted
from tests.workflows.test_market import A, spot
from tests.workflows.world import World

FALLBACK = {"onDemandFallback": {"after": "5m", "maxReplicas": MEMBERS}}


async def on_demand(world: World, **spec: Any) -> list[str]:
    """Let a gang train on on-demand machines, and return their names."""
    world.documents.vm_spec = vm_spec(more=FALLBACK)
    world.cloud.exhausted = {spot(A)}
    await submitted(world, **spec)
    await world.running(1, within=3600)
    assert bought(world).count("OnDemand") == MEMBERS
    return world.nodes_of(0)


def bought(world: World) -> list[str]:
    asked: list[Candidate] = world.cloud.asked
    return [candidate.provisioning for candidate in asked]


async def test_it_moves_once_all_spot_machines_are_ready_and_loses_no_step(world: World) -> None:
    dear = await on_demand(world)
    await world.pass_time(600)
    world.cloud.exhausted = set()
    await world.until(lambda: world.documents.told("SeeksSpot"), within=3600)
    after = await again(world, 1, within=3600)
    assert bought(world)[-MEMBERS:] == ["Spot"] * MEMBERS
    assert not set(dear) & set(after)
    assert world.job(0, 1).request.restore.path == world.bucket.saved[-1].path
    stops = [call.at for call in world.of("stop_replica")]
    assert stops[0] >= max(world.cloud.known[node].created_at for node in after), "it trains until all are there"
    await world.until(lambda: set(world.cloud.instances) == set(after), what="the on-demand machines to go")
    assert world.documents.told("BackToSpot")
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (0, 0)
    await world.pass_time(7200)
    assert world.training() == [(0, 1)], "it stays there"


async def test_spot_machines_that_are_too_few_are_released_after_a_while(world: World) -> None:
    dear = await on_demand(world)
    await world.until(lambda: world.documents.told("SeeksSpot"), within=3600)
    world.cloud.exhausted = set()
    world.cloud.limits["us-central1-a"] = MEMBERS + 2  # two of three spot machines
    await world.until(lambda: len(world.cloud.instances) == MEMBERS + 2, 3600)
    await world.until(lambda: len(world.cloud.instances) == MEMBERS, 3600, "the two to be released")
    assert world.training() == [(0, 0)], "it trains on"
    assert set(world.cloud.instances) == set(dear)
    world.cloud.limits.clear()
    after = await again(world, 1, within=3 * 3600)
    assert not set(dear) & set(after)


async def test_a_machine_that_is_lost_meanwhile_is_replaced_by_a_spot_machine(world: World) -> None:
    dear = await on_demand(world)
    world.bucket.save(world.job(0, 0))
    await world.until(lambda: world.documents.told("SeeksSpot"), within=3600)
    world.cloud.power_off(dear[1])
    world.cloud.exhausted = set()
    after = await again(world, 1, within=3600)
    assert {dear[0], dear[2]} < set(after)
    await world.until(lambda: world.entry(0).incarnation == 2 and world.phase(0) == "Running", 3 * 3600)
    assert not set(dear) & set(world.nodes_of(0))
    await world.until(lambda: len(world.cloud.instances) == MEMBERS)


async def test_a_gang_that_is_partly_on_demand_replaces_only_that_part(world: World) -> None:
    world.documents.vm_spec = vm_spec(more=FALLBACK)
    world.cloud.limits["us-central1-a"] = MEMBERS
    await submitted(world)
    await world.running(1)
    world.bucket.save(world.job(0, 0))
    before = world.nodes_of(0)
    world.cloud.limits.clear()
    world.cloud.exhausted = {spot(A)}
    lost = world.notice(0, member=1)
    mixed = await again(world, 1, within=3600)
    [dear] = set(mixed) - set(before)
    assert lost not in mixed
    world.cloud.exhausted = set()
    after = await again(world, 2, within=2 * 3600)
    assert set(mixed) - set(after) == {dear}


async def test_deleted_while_it_returns_it_leaves_nothing(world: World) -> None:
    await on_demand(world)
    await world.until(lambda: world.documents.told("SeeksSpot"), within=3600)
    world.cloud.exhausted = set()
    await world.until(lambda: len(world.cloud.instances) > MEMBERS, 600)
    await world.delete()
    await world.ended()
    await world.nothing_left()
