"""Google's own clients on the emulated Compute Engine, with machines that only record what was done to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from sandbox.gce import GceEmulator
from sandbox.machines import MachineSpec
from sandbox.machines.mishaps import Mishaps
from sandbox.settings import Settings
from tests.sandbox.light_nodes import eventually

T = TypeVar("T")
PROJECT = "demo-project"
ZONE = "us-central1-a"


class RecordedMachine:
    """A machine without an operating system.

    It boots once ``may_boot`` is set. Its soft off takes ``shutdown`` seconds, and as long as ``may_go_off`` is clear.
    """

    def __init__(self, spec: MachineSpec, may_boot: asyncio.Event) -> None:
        self.spec, self._may_boot = spec, may_boot
        self.guest_attributes: dict[str, str] = {}
        self.calls: list[str] = []
        self.shutdown = 0.05
        self.may_go_off = asyncio.Event()
        self.may_go_off.set()

    async def boot(self) -> None:
        await self._may_boot.wait()
        self.calls.append("boot")
        self.guest_attributes["hostkeys/ssh-ed25519"] = "AAAAC3Nz"

    def suffer(self, mishaps: Mishaps) -> None:
        self.calls.append(f"suffer({mishaps})")

    async def notice(self) -> None:
        self.calls.append("notice")

    async def power_off(self, grace: float) -> None:
        self.calls.append(f"power_off({grace:g})")
        await asyncio.sleep(min(grace, self.shutdown))
        await self.may_go_off.wait()

    async def goes_off(self) -> None:
        """Wait until its soft off has begun."""
        await self.reaches("power_off")

    async def reaches(self, call: str) -> None:
        """Wait until it has been called so last."""

        async def called() -> bool:
            return self.calls[-1].startswith(call)

        await eventually(call, called)

    def serial_output(self) -> str:
        return "Booting\n"


class World:
    """The emulator, its clients, and the machines it made by name."""

    def __init__(self, directory: Path, speed: float) -> None:
        self.machines: dict[str, RecordedMachine] = {}
        self.may_boot = asyncio.Event()
        self.may_boot.set()
        self.gce = GceEmulator(Settings(state_dir=directory, speed=speed, octet=191), self)
        self.url = ""

    def create(self, spec: MachineSpec) -> RecordedMachine:
        machine = self.machines[spec.name] = RecordedMachine(spec, self.may_boot)
        return machine

    async def start(self) -> None:
        self.url = await self.gce.start()
        options = ClientOptions(api_endpoint=self.url)
        anonymous = AnonymousCredentials()
        self.instances = compute_v1.InstancesClient(credentials=anonymous, client_options=options)
        self.operations = compute_v1.ZoneOperationsClient(credentials=anonymous, client_options=options)

    async def call(self, method: Callable[..., T], **arguments: Any) -> T:
        """Call a method of a Google client in a thread, because it blocks."""
        arguments.setdefault("project", PROJECT)
        arguments.setdefault("zone", ZONE)
        return await asyncio.to_thread(method, request=arguments)

    async def insert(self, name: str, **changes: Any) -> compute_v1.Operation:
        """Insert ``spot_vm(name)``, and return the operation."""
        request_id = changes.pop("request_id", None)
        zone = changes.pop("zone", ZONE)
        extra = {"request_id": request_id} if request_id else {}
        resource = spot_vm(name, zone, **changes)
        return await self.call(self.instances.insert_unary, zone=zone, instance_resource=resource, **extra)

    async def done(self, operation: compute_v1.Operation) -> compute_v1.Operation:
        """Wait until an operation is DONE."""
        zone = operation.zone.rsplit("/", 1)[-1]
        async with asyncio.timeout(120):
            while operation.status != compute_v1.Operation.Status.DONE:
                operation = await self.call(self.operations.wait, operation=operation.name, zone=zone)
        return operation

    async def running(self, name: str, **changes: Any) -> RecordedMachine:
        """Insert a VM, wait until it runs, and return its machine."""
        operation = await self.done(await self.insert(name, **changes))
        assert not operation.error.errors
        return self.machines[name]

    async def get(self, name: str, zone: str = ZONE) -> compute_v1.Instance:
        return await self.call(self.instances.get, instance=name, zone=zone)

    async def list(self, **arguments: Any) -> list[str]:
        """Return the names of the VMs of the zone, in order."""
        arguments = {"project": PROJECT, "zone": ZONE, **arguments}
        return await asyncio.to_thread(lambda: [vm.name for vm in self.instances.list(request=arguments)])

    async def status(self, name: str) -> str:
        return str((await self.get(name)).status)

    async def becomes(self, status: str, name: str) -> None:
        """Wait until a VM has this status."""

        async def has() -> bool:
            return any(each["name"] == name and each["status"] == status for each in self.gce.instances())

        await eventually(f"{name} is {status}", has)


def spot_vm(name: str, zone: str = ZONE, **changes: Any) -> dict[str, Any]:
    """Describe a spot VM with a T4 as the product requests one; ``changes`` replace fields, None leaves one out."""
    resource: dict[str, Any] = {
        "name": name,
        "machine_type": f"zones/{zone}/machineTypes/n1-standard-8",
        "guest_accelerators": [
            {"accelerator_type": f"zones/{zone}/acceleratorTypes/nvidia-tesla-t4", "accelerator_count": 1}
        ],
        "disks": [disk()],
        "network_interfaces": [{"network": "global/networks/default"}],
        "scheduling": {
            "provisioning_model": "SPOT",
            "automatic_restart": False,
            "on_host_maintenance": "TERMINATE",
            "instance_termination_action": "DELETE",
        },
        "labels": {"outlast-job": "7f3a"},
    }
    return {field: value for field, value in (resource | changes).items() if value is not None}


def disk(**changes: Any) -> dict[str, Any]:
    """Describe a boot disk."""
    params = {"source_image": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts", "disk_size_gb": 100}
    return {"boot": True, "auto_delete": True, "initialize_params": params | changes}


@contextlib.asynccontextmanager
async def world(directory: Path, speed: float = 100.0) -> AsyncIterator[World]:
    """Start a world, and stop it in the end."""
    made = World(directory, speed)
    await made.start()
    try:
        yield made
    finally:
        await made.gce.stop()
