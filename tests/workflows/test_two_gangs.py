"""Two gangs that want the last machines of a zone: neither waits for ever for those that the other one holds."""

from __future__ import annotations

from temporalio.contrib.pydantic import pydantic_data_converter

from tests.simulation.simulation import Simulation
from tests.workflows.cloud import Cloud
from tests.workflows.documents import vm_spec
from tests.workflows.estate import Estate
from tests.workflows.test_gang import submitted

A, B = "us-central1-a", "us-central1-b"
MEMBERS = 3


def held(cloud: Cloud, zone: str) -> int:
    return len([each for each in cloud.instances.values() if each.zone == zone])


def share(estate: Estate, room: dict[str, int]) -> None:
    """Let all jobs take their machines from the same zones, of which each has so much room."""
    clouds = [world.cloud for world in estate.worlds]
    for cloud in clouds:
        cloud._is_full = lambda zone: sum(held(each, zone) for each in clouds) >= room[zone]  # type: ignore[method-assign]


async def test_two_gangs_that_hold_half_a_zone_each_both_train_in_the_end() -> None:
    estate = Estate(Simulation(pydantic_data_converter), 2)
    worlds = estate.worlds
    share(estate, {A: 4, B: MEMBERS})
    async with estate.worker():
        for world in worlds:
            world.documents.vm_spec = vm_spec(zones=[B])
            await submitted(world, members=MEMBERS)
        await estate.until(lambda: all(world.phase(0) == "Running" for world in worlds), 6 * 3600, "both to train")
        zones = [{each.zone for each in world.cloud.instances.values()} for world in worlds]
        assert sorted(map(sorted, zones)) == [[A], [B]], "each has one zone, and holds nothing in the other"
        assert [len(world.cloud.instances) for world in worlds] == [MEMBERS, MEMBERS]


async def test_if_there_is_room_for_one_alone_one_trains_and_the_other_keeps_nothing() -> None:
    estate = Estate(Simulation(pydantic_data_converter), 2)
    worlds = estate.worlds
    share(estate, {A: 4, B: 0})
    async with estate.worker():
        for world in worlds:
            world.documents.vm_spec = vm_spec(zones=[B])
            await submitted(world, members=MEMBERS)
        await estate.until(lambda: any(world.phase(0) == "Running" for world in worlds), 12 * 3600, "one to train")
        await estate.pass_time(2 * 3600)
        first, second = sorted(worlds, key=lambda world: world.phase(0) != "Running")
        assert (first.phase(0), len(first.cloud.instances)) == ("Running", MEMBERS)
        assert second.phase(0) != "Running"
        assert "a smaller gang.minSize" in second.documents.told("GangIncomplete")[0]
