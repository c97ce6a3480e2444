"""What the emulated Compute Engine refuses: the real one refuses all of these, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google.api_core import exceptions

from tests.sandbox.gce_world import PROJECT, ZONE, World, disk
from tests.sandbox.gce_world import world as running


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


def _gpu(kind: str, count: int) -> list[dict[str, Any]]:
    return [{"accelerator_type": f"zones/{ZONE}/acceleratorTypes/{kind}", "accelerator_count": count}]


def _type(name: str) -> str:
    return f"zones/{ZONE}/machineTypes/{name}"


_SPOT = {"provisioning_model": "SPOT", "automatic_restart": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Vm_1"}, "resource.name"),
        ({"name": "a" * 64}, "resource.name"),
        ({"labels": {"Upper": "x"}}, "Label key 'Upper'"),
        ({"labels": {"training.dcnlab.com/job": "x"}}, "Label key"),
        ({"labels": {"job": "Upper"}}, "Label value 'Upper'"),
        ({"labels": {"job": "x" * 64}}, "at most 63"),
        ({"labels": {f"label-{n}": "x" for n in range(65)}}, "exceeds the limit of 64"),
        ({"machine_type": None}, "Required field"),
        ({"machine_type": "n1-standard-8"}, "URL is malformed"),
        ({"machine_type": _type("n9-standard-8")}, "does not exist in zone"),
        ({"machine_type": "zones/us-east1-b/machineTypes/n1-standard-8"}, "must be in the instance's zone"),
        ({"disks": None}, "No disks"),
        ({"disks": [{**disk(), "boot": False}]}, "Boot disk must be the first"),
        ({"disks": [disk(disk_size_gb=5)]}, "cannot be smaller than the image size"),
        ({"disks": [disk(source_image="ubuntu-2204")]}, "URL is malformed"),
        ({"network_interfaces": None}, "Required field"),
        ({"guest_accelerators": _gpu("nvidia-tesla-t4", 3)}, "must be one of [1, 2, 4]"),
        ({"guest_accelerators": _gpu("nvidia-l4", 1)}, "not compatible"),
        ({"machine_type": _type("n1-standard-64")}, "not compatible"),
        ({"machine_type": _type("e2-standard-4")}, "not compatible"),
        ({"machine_type": _type("a2-highgpu-1g")}, "not compatible"),
        (
            {"machine_type": _type("a2-highgpu-1g"), "guest_accelerators": _gpu("nvidia-tesla-a100", 2)},
            "not compatible",
        ),
        (
            {
                "machine_type": _type("g2-standard-4"),
                "guest_accelerators": None,
                "disks": [disk(disk_type=f"zones/{ZONE}/diskTypes/pd-standard")],
            },
            "not compatible",
        ),
        ({"scheduling": {"provisioning_model": "STANDARD"}}, "live migration"),
        ({"scheduling": {**_SPOT, "on_host_maintenance": "MIGRATE"}}, "live migration"),
        ({"scheduling": {**_SPOT, "automatic_restart": True}}, "AutomaticRestart"),
        ({"scheduling": {**_SPOT, "preemption_notice_duration": {"seconds": 60}}}, "0 or 120"),
        ({"scheduling": {**_SPOT, "instance_termination_action": "HIBERNATE"}}, "Must be one of [DELETE"),
        ({"scheduling": {**_SPOT, "max_run_duration": {"seconds": 60}}}, "Not emulated"),
        ({"scheduling": {"instance_termination_action": "DELETE"}}, "standard provisioning model"),
        ({"scheduling": {"provisioning_model": "CHEAP"}}, "Must be one of [FLEX_START"),
        ({"metadata": {"items": [{"key": "a b", "value": ""}]}}, "resource.metadata"),
        ({"metadata": {"items": [{"key": "a"}, {"key": "a"}]}}, "Duplicate metadata key"),
        ({"service_accounts": [{"email": "nobody"}]}, "service account email"),
        ({"tags": {"items": ["Bad Tag"]}}, "resource.tags.items[0]"),
        ({"min_cpu_platform": "AMD Rome"}, "Invalid CPU platform"),
    ],
)
async def test_a_wrong_body_is_refused(world: World, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.BadRequest) as raised:
        await world.insert(changes.pop("name", "vm-1"), **changes)
    assert message in raised.value.message
    assert raised.value.errors[0]["reason"] in {"invalid", "required", "badRequest"}
    assert world.gce.instances() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"disks": [disk(source_image="projects/ubuntu-os-cloud/global/images/family/ubuntu-1204-lts")]},
        {"disks": [disk(source_image="global/images/my-image")]},
        {"disks": [disk(disk_type=f"zones/{ZONE}/diskTypes/pd-quick")]},
        {"network_interfaces": [{"network": "global/networks/other"}]},
        {"guest_accelerators": _gpu("nvidia-tesla-k80", 1)},
    ],
)
async def test_what_a_body_refers_to_must_exist(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(exceptions.NotFound):
        await world.insert("vm-1", **changes)


@pytest.mark.parametrize(
    ("kind", "machine_type", "count"),
    [
        ("nvidia-tesla-a100", "a2-highgpu-2g", 2),
        ("nvidia-l4", "g2-standard-24", 2),
        ("nvidia-h100-80gb", "a3-highgpu-1g", 1),
    ],
)
async def test_built_in_gpus_may_be_named_or_not(world: World, kind: str, machine_type: str, count: int) -> None:
    await world.running("named", machine_type=_type(machine_type), guest_accelerators=_gpu(kind, count))
    machine = await world.running("unnamed", machine_type=_type(machine_type), guest_accelerators=None)
    assert (machine.spec.gpu_type, machine.spec.gpu_count) == (kind, count)
    assert (await world.get("unnamed")).guest_accelerators[0].accelerator_count == count


async def test_an_image_family_may_be_named_as_gcloud_does(world: World) -> None:
    view = "projects/ubuntu-os-cloud/zones/-/imageFamilyViews/ubuntu-2204-lts"
    await world.running("vm-1", disks=[disk(source_image=view)])


async def test_an_image_of_the_projects_own(world: World) -> None:
    world.gce.fleet.images.add(PROJECT, "trainer-v1", "trainer", disk_gb=50)
    await world.running("vm-1", disks=[disk(source_image="global/images/family/trainer")])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"nmae": "vm-1"}, 'Unknown name "nmae"'),
        ({"machine_type": "x"}, 'Unknown name "machine_type"'),
        (
            {"disks": [{"initializeParams": {"size": 1}}]},
            "Unknown name \"size\" at 'resource.disks[0].initializeParams'",
        ),
        ({"canIpForward": "yes"}, "Invalid JSON payload"),
        ([], "Root element must be a message"),
    ],
)
async def test_a_body_that_is_no_instance_is_refused(world: World, body: Any, message: str) -> None:
    url = f"{world.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert message in error["message"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("zones/nowhere-1a/instances", 400),
        ("zones/nowhere-1a", 404),
        ("regions/nowhere1", 404),
        (f"zones/{ZONE}/instances?pageSize=3", 400),
        (f"zones/{ZONE}/gadgets", 404),
    ],
)
async def test_wrong_addresses_are_refused(world: World, path: str, status: int) -> None:
    url = f"{world.url}/compute/v1/projects/{PROJECT}/{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == status


async def test_int64s_are_strings_in_json(world: World) -> None:
    await world.running("vm-1")
    url = f"{world.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/vm-1"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        resource = await answer.json()
    assert isinstance(resource["id"], str)
    assert resource["disks"][0]["diskSizeGb"] == "100"
    assert resource["kind"] == "compute#instance"
