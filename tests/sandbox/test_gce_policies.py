"""The placement policies of the emulated Compute Engine, through Google's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from tests.sandbox.gce_world import PROJECT, ZONE, World, disk
from tests.sandbox.gce_world import world as running
from tests.sandbox.light_nodes import eventually

REGION = "us-central1"
NEAR: dict[str, Any] = {
    "machine_type": f"zones/{ZONE}/machineTypes/g2-standard-4",
    "guest_accelerators": None,
    "disks": [disk(disk_type=f"zones/{ZONE}/diskTypes/pd-balanced")],
    "resource_policies": [f"regions/{REGION}/resourcePolicies/near"],
}


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def call(world: World, method: str, **arguments: Any) -> Any:
    """Call a method of Google's client in a thread, because it blocks."""
    options = ClientOptions(api_endpoint=world.url)
    client = compute_v1.ResourcePoliciesClient(credentials=AnonymousCredentials(), client_options=options)
    return await asyncio.to_thread(getattr(client, method), request={"project": PROJECT, "region": REGION, **arguments})


async def make(world: World, **placement: Any) -> None:
    policy = {"name": "near", "group_placement_policy": {"collocation": "COLLOCATED", **placement}}
    await call(world, "insert_unary", resource_policy_resource=policy)


async def ready(world: World) -> None:
    async def is_ready() -> bool:
        return bool((await call(world, "get", resource_policy="near")).status == "READY")

    await eventually("the policy to be READY", is_ready)


async def delete(world: World) -> None:
    await call(world, "delete_unary", resource_policy="near")


async def test_a_policy_that_a_vm_names_cannot_be_deleted(world: World) -> None:
    await make(world)
    await ready(world)
    await world.insert("vm-1", **NEAR)
    with pytest.raises(exceptions.BadRequest, match="already being used by") as raised:
        await delete(world)
    assert raised.value.errors[0]["reason"] == "resourceInUseByAnotherResource"


async def test_a_policy_without_vms_is_deleted_once(world: World) -> None:
    await make(world)
    await delete(world)
    with pytest.raises(exceptions.NotFound):
        await delete(world)


async def test_its_name_is_taken(world: World) -> None:
    await make(world)
    with pytest.raises(exceptions.Conflict):
        await make(world)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resource_policies": ["regions/us-east1/resourcePolicies/near"]}, "must be in the instance's region"),
        ({"resource_policies": ["near"]}, "URL is malformed"),
        ({"resource_policies": NEAR["resource_policies"] * 2}, "At most one"),
        ({"machine_type": f"zones/{ZONE}/machineTypes/n1-standard-4"}, "not applicable to machine type"),
    ],
)
async def test_what_does_not_go_with_it_is_refused(world: World, changes: dict[str, Any], message: str) -> None:
    await make(world)
    await ready(world)
    with pytest.raises(exceptions.BadRequest, match=message):
        await world.insert("vm-1", **{**NEAR, **changes})


async def test_a_vm_cannot_name_one_that_does_not_exist(world: World) -> None:
    with pytest.raises(exceptions.NotFound, match="resourcePolicies/near"):
        await world.insert("vm-1", **NEAR)


async def test_what_is_not_emulated_is_refused(world: World) -> None:
    with pytest.raises(exceptions.BadRequest, match="Not emulated"):
        await make(world, vm_count=4)
