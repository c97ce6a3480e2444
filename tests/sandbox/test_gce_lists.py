"""Lists of the emulated Compute Engine: filters, pages, aggregates, and what it offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from tests.sandbox.gce_world import PROJECT, ZONE, World
from tests.sandbox.gce_world import world as running


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def fleet(world: World) -> World:
    await world.running("a-1", labels={"outlast-job": "a", "outlast-replica": "0"})
    await world.running("a-2", labels={"outlast-job": "a", "outlast-replica": "1"})
    await world.running("b-1", labels={"outlast-job": "b"})
    await world.running("other", labels={})
    await world.done(await world.call(world.instances.stop_unary, instance="b-1"))
    return world


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["a-1", "a-2", "b-1", "other"]),
        ('labels.outlast-job = "a"', ["a-1", "a-2"]),
        ("labels.outlast-job=a", ["a-1", "a-2"]),
        ("labels.outlast-job:*", ["a-1", "a-2", "b-1"]),
        ("NOT labels.outlast-job:*", ["other"]),
        ("-labels.outlast-job:*", ["other"]),
        ('labels.outlast-job != "a"', ["b-1", "other"]),
        ('(labels.outlast-job = "a") AND (labels.outlast-replica = "1")', ["a-2"]),
        ('(labels.outlast-job = "a") (labels.outlast-replica = "1")', ["a-2"]),
        ('(labels.outlast-job:*) AND (status != "TERMINATED")', ["a-1", "a-2"]),
        ("name = other OR status = TERMINATED", ["b-1", "other"]),
        ("status = RUNNING AND name = other OR name = a-1", ["a-1", "other"]),
        ("name:a-", ["a-1", "a-2"]),
        ('name eq ".*-1"', ["a-1", "b-1"]),
        ('name ne "a.*"', ["b-1", "other"]),
        ("scheduling.automaticRestart = false", ["a-1", "a-2", "b-1", "other"]),
        ('creationTimestamp > "2000-01-01T00:00:00Z"', ["a-1", "a-2", "b-1", "other"]),
        ('networkInterfaces.networkIP = "127.191.1.2"', ["a-1"]),
    ],
)
async def test_filters(fleet: World, text: str, names: list[str]) -> None:
    assert await fleet.list(filter=text) == names


@pytest.mark.parametrize(
    "text",
    ["colour = red", "name", "name = ", "(name = a", "name ~ a", "name = a name = b", "labels.x = y)", "name eq '['"],
)
async def test_a_filter_that_is_not_understood_is_refused(world: World, text: str) -> None:
    with pytest.raises(exceptions.BadRequest) as raised:
        await world.list(filter=text)
    assert "Invalid list filter expression" in raised.value.message


async def test_pages_give_everything_once(fleet: World) -> None:
    assert await fleet.list(max_results=1) == ["a-1", "a-2", "b-1", "other"]
    assert await fleet.list(max_results=3) == ["a-1", "a-2", "b-1", "other"]
    assert await fleet.list(max_results=2, order_by="creationTimestamp desc") == ["other", "b-1", "a-2", "a-1"]


@pytest.mark.parametrize("arguments", [{"max_results": 501}, {"page_token": "nonsense"}, {"order_by": "status"}])
async def test_wrong_list_parameters_are_refused(world: World, arguments: dict[str, object]) -> None:
    with pytest.raises(exceptions.BadRequest):
        await world.list(**arguments)


async def test_the_aggregate_is_by_zone(fleet: World) -> None:
    await fleet.running("b-2", zone="us-central1-b")
    request = {"project": PROJECT, "max_results": 2}
    scopes = await asyncio.to_thread(lambda: list(fleet.instances.aggregated_list(request=request)))
    found: dict[str, list[str]] = {}
    for zone, scope in scopes:
        found.setdefault(zone, []).extend(vm.name for vm in scope.instances)
    assert found["zones/us-central1-a"] == ["a-1", "a-2", "b-1", "other"]
    assert found["zones/us-central1-b"] == ["b-2"]
    assert found["zones/us-east1-b"] == []


async def test_operations_are_listed_by_type(fleet: World) -> None:
    found = await fleet.call(fleet.operations.list, filter='operationType = "stop"')
    assert [operation.target_link.rsplit("/", 1)[-1] for operation in found] == ["b-1"]


async def test_what_the_cloud_sells(world: World) -> None:
    options = {"client_options": ClientOptions(api_endpoint=world.url), "credentials": AnonymousCredentials()}

    def ask() -> None:
        types = compute_v1.MachineTypesClient(**options)
        assert (
            types.get(project=PROJECT, zone=ZONE, machine_type="a2-highgpu-1g").accelerators[0].guest_accelerator_count
            == 1
        )
        assert "n1-standard-8" in {found.name for found in types.list(project=PROJECT, zone=ZONE)}
        with pytest.raises(exceptions.NotFound):
            types.get(project=PROJECT, zone="us-west1-c", machine_type="a2-highgpu-1g")
        accelerators = compute_v1.AcceleratorTypesClient(**options)
        assert (
            accelerators.get(project=PROJECT, zone=ZONE, accelerator_type="nvidia-tesla-t4").maximum_cards_per_instance
            == 4
        )
        assert ZONE in {zone.name for zone in compute_v1.ZonesClient(**options).list(project=PROJECT)}
        assert compute_v1.ZonesClient(**options).get(project=PROJECT, zone=ZONE).status == "UP"
        assert "us-central1" in {region.name for region in compute_v1.RegionsClient(**options).list(project=PROJECT)}
        assert compute_v1.ProjectsClient(**options).get(project=PROJECT).name == PROJECT
        images = compute_v1.ImagesClient(**options)
        newest = images.get_from_family(project="ubuntu-os-cloud", family="ubuntu-2204-lts")
        assert images.get(project="ubuntu-os-cloud", image=newest.name).family == "ubuntu-2204-lts"
        assert images.get_from_family(project="cos-cloud", family="cos-stable").name.startswith("cos-")

    await asyncio.to_thread(ask)
