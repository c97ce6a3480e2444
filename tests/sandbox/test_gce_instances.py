"""The life of a VM in the emulated Compute Engine, through Google's own clients."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from google.api_core import exceptions

from sandbox.gce import Happening
from tests.sandbox.gce_world import PROJECT, ZONE, World, spot_vm
from tests.sandbox.gce_world import world as running


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def test_an_insert_takes_its_time_and_ends_in_a_running_vm(world: World) -> None:
    world.may_boot.clear()
    operation = await world.insert("vm-1")
    assert operation.status.name in {"PENDING", "RUNNING"}
    assert await world.status("vm-1") in {"PROVISIONING", "STAGING"}
    world.may_boot.set()
    await world.done(operation)
    vm = await world.get("vm-1")
    assert vm.status == "RUNNING"
    assert re.fullmatch(r"127\.191\.1\.2", vm.network_interfaces[0].network_i_p)
    assert vm.self_link.endswith(f"/projects/{PROJECT}/zones/{ZONE}/instances/vm-1")
    assert world.machines["vm-1"].spec.instance_id == vm.id
    assert (world.machines["vm-1"].spec.gpu_type, world.machines["vm-1"].spec.gpu_count) == ("nvidia-tesla-t4", 1)


async def test_the_same_request_id_is_the_same_operation(world: World) -> None:
    request_id = str(uuid.uuid4())
    first = await world.insert("vm-1", request_id=request_id)
    assert (await world.insert("vm-1", request_id=request_id)).name == first.name
    await world.done(first)
    assert (await world.insert("vm-1", request_id=request_id)).name == first.name
    assert world.gce.ledger.count(Happening.REQUESTED) == 1


@pytest.mark.parametrize("request_id", ["not-a-uuid", str(uuid.UUID(int=0))])
async def test_a_request_id_must_be_a_uuid(world: World, request_id: str) -> None:
    with pytest.raises(exceptions.BadRequest):
        await world.insert("vm-1", request_id=request_id)


async def test_a_name_that_is_taken_is_a_conflict(world: World) -> None:
    await world.insert("vm-1")
    with pytest.raises(exceptions.Conflict) as raised:
        await world.insert("vm-1")
    assert raised.value.errors[0]["reason"] == "alreadyExists"


async def test_names_are_taken_in_one_zone_only(world: World) -> None:
    await world.running("vm-1")
    await world.running("vm-1", zone="us-central1-b")
    assert len(world.gce.instances()) == 2


async def test_what_does_not_exist_is_not_found(world: World) -> None:
    with pytest.raises(exceptions.NotFound):
        await world.get("vm-1")
    with pytest.raises(exceptions.NotFound):
        await world.call(world.operations.get, operation="operation-1")


async def test_a_deleted_vm_is_gone_once_its_operation_is_done(world: World) -> None:
    machine = await world.running("vm-1")
    machine.may_go_off.clear()
    operation = await world.call(world.instances.delete_unary, instance="vm-1")
    assert operation.operation_type == "delete"
    await world.becomes("STOPPING", "vm-1")
    assert await world.status("vm-1") == "STOPPING"
    machine.may_go_off.set()
    await world.done(operation)
    with pytest.raises(exceptions.NotFound):
        await world.get("vm-1")
    assert machine.calls == ["boot", "power_off(0.9)"]
    again = await world.running("vm-1")  # the name and the address are free again
    assert again.spec.address == machine.spec.address
    assert again.spec.instance_id != machine.spec.instance_id


async def test_two_deletes_are_one(world: World) -> None:
    machine = await world.running("vm-1")
    machine.may_go_off.clear()
    first = await world.call(world.instances.delete_unary, instance="vm-1")
    second = await world.call(world.instances.delete_unary, instance="vm-1")
    assert first.name == second.name
    machine.may_go_off.set()
    await world.done(first)
    assert world.gce.ledger.count(Happening.DELETED) == 1


async def test_a_delete_overtakes_an_insert(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.gce.transitions.STAGING_SECONDS", 1e6)
    inserting = await world.insert("vm-1")
    await world.becomes("STAGING", "vm-1")
    await world.done(await world.call(world.instances.delete_unary, instance="vm-1"))
    await world.done(inserting)
    assert world.gce.instances() == []
    assert "boot" not in world.machines["vm-1"].calls


async def test_stop_and_start(world: World) -> None:
    machine = await world.running("vm-1")
    await world.done(await world.call(world.instances.stop_unary, instance="vm-1"))
    assert await world.status("vm-1") == "TERMINATED"
    await world.done(await world.call(world.instances.start_unary, instance="vm-1"))
    assert await world.status("vm-1") == "RUNNING"
    assert machine.calls == ["boot", "power_off(0.9)", "boot"]


async def test_labels_change_for_those_who_know_the_fingerprint(world: World) -> None:
    await world.running("vm-1")
    vm = await world.get("vm-1")
    body = {"labels": {"outlast-job": "other"}, "label_fingerprint": vm.label_fingerprint}
    request = {"instance": "vm-1", "instances_set_labels_request_resource": body}
    await world.done(await world.call(world.instances.set_labels_unary, **request))
    assert (await world.get("vm-1")).labels == {"outlast-job": "other"}
    with pytest.raises(exceptions.PreconditionFailed):
        await world.call(world.instances.set_labels_unary, **request)


async def test_new_metadata_reaches_the_machine(world: World) -> None:
    machine = await world.running("vm-1", metadata={"items": [{"key": "old", "value": "1"}]})
    vm = await world.get("vm-1")
    body = {"items": [{"key": "ssh-keys", "value": "u:k"}], "fingerprint": vm.metadata.fingerprint}
    await world.done(await world.call(world.instances.set_metadata_unary, instance="vm-1", metadata_resource=body))
    assert machine.spec.metadata == {"ssh-keys": "u:k"}


async def test_guest_attributes_and_serial_port(world: World) -> None:
    await world.running("vm-1")
    found = await world.call(world.instances.get_guest_attributes, instance="vm-1", query_path="hostkeys/")
    assert [(a.namespace, a.key, a.value) for a in found.query_value.items] == [("hostkeys", "ssh-ed25519", "AAAAC3Nz")]
    with pytest.raises(exceptions.NotFound):
        await world.call(world.instances.get_guest_attributes, instance="vm-1", query_path="other/")
    output = await world.call(world.instances.get_serial_port_output, instance="vm-1", start=4)
    assert (output.contents, output.next_) == ("ing\n", 8)


async def test_an_answer_leaves_in_one_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.running("vm-1")
    writes: list[bytes] = []
    transport = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    def count(self: object, data: bytes) -> None:
        writes.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(transport, "write", count)
    url = f"{world.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/vm-1"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        await answer.read()
    answers = [data for data in writes if not data.startswith(b"GET")]
    assert len(answers) == 1
    assert answers[0].startswith(b"HTTP/1.1 200")


async def test_permissions_of_the_project(world: World) -> None:
    world.gce.faults.withdraw_permissions("compute.instances.create")
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{world.url}/v1/projects/{PROJECT}:testIamPermissions",
            json={"permissions": ["compute.instances.create", "compute.instances.delete"]},
        ) as answer,
    ):
        assert await answer.json() == {"permissions": ["compute.instances.delete"]}
    with pytest.raises(exceptions.Forbidden) as raised:
        await world.insert("vm-1")
    assert raised.value.errors[0]["reason"] == "forbidden"
    world.gce.faults.grant_permissions()
    await world.insert("vm-1")


async def test_a_vm_without_spot_is_an_ordinary_one(world: World) -> None:
    await world.running("vm-1", scheduling={"on_host_maintenance": "TERMINATE"})
    scheduling = (await world.get("vm-1")).scheduling
    assert (scheduling.provisioning_model, scheduling.automatic_restart) == ("STANDARD", True)


async def test_the_body_may_use_full_urls(world: World) -> None:
    base = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{ZONE}"
    await world.running("vm-1", machine_type=f"{base}/machineTypes/n1-standard-4")
    assert (
        spot_vm("vm-1")["machine_type"]
        != (await world.get("vm-1")).machine_type
        == f"{base}/machineTypes/n1-standard-4"
    )
