"""A light machine's metadata server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.sandbox.light_machines import World
from tests.sandbox.light_machines import world as running
from tests.sandbox.light_nodes import eventually


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def test_the_header_is_required_and_proxies_are_refused(world: World) -> None:
    machine = await world.boot("vm-1")
    url = f"http://{machine.spec.address}:{world.settings.metadata_port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/") as answer:
            assert (answer.status, answer.headers["Metadata-Flavor"]) == (200, "Google")
        async with session.get(f"{url}/computeMetadata/v1/instance/name") as answer:
            assert answer.status == 403
        headers = {"Metadata-Flavor": "Google", "X-Forwarded-For": "1.2.3.4"}
        async with session.get(f"{url}/computeMetadata/v1/instance/name", headers=headers) as answer:
            assert answer.status == 403


async def test_values_directories_and_recursion(world: World) -> None:
    machine = await world.boot("vm-1", job="7f3a")

    async def text(path: str, **params: str) -> str:
        return await (await world.metadata(machine, path, **params)).text()

    assert await text("instance/name") == "vm-1"
    assert await text("instance/id") == str(machine.spec.instance_id)
    assert (await text("instance/zone")).endswith("/zones/us-central1-a")
    assert await text("instance/attributes/job") == "7f3a"
    assert "attributes/" in (await text("instance/")).split()
    recursive = json.loads(await text("instance/", recursive="true"))
    assert recursive["attributes"]["job"] == "7f3a"
    assert recursive["machineType"].endswith("/n1-standard-8")
    assert (await world.metadata(machine, "instance/nothing")).status == 404


async def test_a_notice_ends_the_wait_at_once(world: World) -> None:
    machine = await world.boot("vm-1")
    first = await world.metadata(machine, "instance/preempted")
    assert await first.text() == "FALSE"
    params = {"wait_for_change": "true", "last_etag": first.headers["ETag"]}
    waiting = asyncio.create_task(world.metadata(machine, "instance/preempted", **params))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await machine.notice()
    answer = await asyncio.wait_for(waiting, 120)
    assert await answer.text() == "TRUE"
    assert answer.headers["ETag"] != first.headers["ETag"]
    again = await asyncio.wait_for(world.metadata(machine, "instance/preempted", **params), 120)
    assert await again.text() == "TRUE"


async def test_a_wait_ends_at_its_time_out(world: World) -> None:
    machine = await world.boot("vm-1")
    params = {"wait_for_change": "true", "timeout_sec": "1"}
    answer = await asyncio.wait_for(world.metadata(machine, "instance/preempted", **params), 120)
    assert await answer.text() == "FALSE"


async def test_guest_attributes_are_written_by_the_guest(world: World) -> None:
    machine = await world.boot("vm-1")
    path = f"http://{machine.spec.address}:8080/computeMetadata/v1/instance/guest-attributes/outlast/joined"
    async with (
        aiohttp.ClientSession(headers={"Metadata-Flavor": "Google"}) as session,
        session.put(path, data="yes") as answer,
    ):
        assert answer.status == 200
    assert machine.guest_attributes["outlast/joined"] == "yes"


async def test_guest_attributes_are_closed_unless_enabled(world: World) -> None:
    machine = world.machines.create(world.spec("vm-1", enable_guest_attributes="FALSE"))
    world.made.append(machine)
    await machine.boot()
    path = f"http://{machine.spec.address}:8080/computeMetadata/v1/instance/guest-attributes/outlast/joined"
    async with (
        aiohttp.ClientSession(headers={"Metadata-Flavor": "Google"}) as session,
        session.put(path, data="yes") as answer,
    ):
        assert answer.status == 403


async def test_it_can_be_out_of_order_for_a_while(world: World) -> None:
    machine = await world.boot("vm-1")
    machine.metadata.fail(503, 3)
    assert (await world.metadata(machine, "instance/preempted")).status == 503

    async def in_order() -> bool:
        return (await world.metadata(machine, "instance/preempted")).status == 200

    await eventually("it is in order again", in_order)


async def test_it_dies_with_the_machine(world: World) -> None:
    machine = await world.boot("vm-1")
    waiting = asyncio.create_task(world.metadata(machine, "instance/preempted", wait_for_change="true"))
    await asyncio.sleep(0.2)
    await machine.power_off(0)
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(waiting, 120)
    with pytest.raises(aiohttp.ClientError):
        await world.metadata(machine, "instance/name")


async def test_after_a_reboot_there_is_no_notice_any_more(world: World) -> None:
    machine = await world.boot("vm-1")
    await machine.notice()
    await machine.power_off(0)
    await machine.boot()
    assert await (await world.metadata(machine, "instance/preempted")).text() == "FALSE"
