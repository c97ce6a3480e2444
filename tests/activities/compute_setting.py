"""An emulated cloud and the activities on it, for tests of what they do there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest

from activities.compute.activities import ComputeActivities
from activities.compute.gcp import GcpCloud
from activities.join.ssh import SshKeys
from activities.signatures import CreateProgress, CreateVm, ObserveCreate, VmRef
from api.market import Candidate
from api.names import placement_name, vm_name
from api.spot_instance_vm import SpotInstanceVMSpec
from sandbox.gce import GceEmulator
from sandbox.settings import Settings
from tests.activities.boxes import Boxes
from tests.activities.world import run

ZONE = "us-central1-a"
LABELS = {"outlast-job": "0badcafe", "outlast-replica": "0", "outlast-cluster": "c1"}
T = TypeVar("T")


class Setting:
    """An emulated cloud and the activities on it."""

    def __init__(self, gce: GceEmulator, cloud: GcpCloud, activities: ComputeActivities) -> None:
        self.gce = gce
        self.cloud = cloud
        self.activities = activities

    async def run(self, call: Callable[[Any], Awaitable[T]], argument: Any) -> T:
        return await run(call, argument)

    async def created(self, create: CreateVm) -> CreateProgress:
        """Create a VM and wait until its operation is done."""
        operation = await self.run(self.activities.create_vm, create)
        return await self.run(self.activities.observe_create, ObserveCreate(vm=create.vm, operation=operation.name))

    async def gone(self, vm: VmRef) -> None:
        """Delete a VM until it is gone."""
        async with asyncio.timeout(120):
            while True:
                if not (await self.run(self.activities.delete_vm, vm)).exists:
                    return
                await asyncio.sleep(0.1)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """Start an emulated GCE that is fifty times as fast as the real one."""
    gce = GceEmulator(Settings(state_dir=tmp_path, speed=50, octet=191), Boxes())
    key_file = tmp_path / "id_ed25519"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key_file)
    kube: Any = None  # nothing here names a Secret
    cloud = GcpCloud(kube, await gce.start())
    yield Setting(gce, cloud, ComputeActivities(cloud, SshKeys(kube, key_file)))
    cloud.close()
    await gce.stop()


def vm_ref(attempt: int = 1, **changes: Any) -> VmRef:
    name = vm_name("0badcafe-r0-v1", attempt)
    return VmRef(**{"project": "demo", "zone": ZONE, "name": name, "namespace": "default", "labels": LABELS, **changes})


def create_vm(vm: VmRef | None = None, **spec: Any) -> CreateVm:
    document = {
        "vmImage": "ubuntu-2404-lts-amd64",
        "gpu": {"type": "nvidia-tesla-t4", "count": 1},
        "gcp": {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4"},
        **spec,
    }
    read = SpotInstanceVMSpec.model_validate(document)
    vm = vm or vm_ref()
    return CreateVm(vm=vm, spec=read, candidate=Candidate(zone=vm.zone, machine_type="n1-standard-4", gpu=read.gpu))


def compact_vm(vm: VmRef | None = None) -> CreateVm:
    """Make the request for a VM of a gang that is placed compactly, on a machine type that can be."""
    near = placement_name("0badcafe", 0)
    create = create_vm(
        (vm or vm_ref()).model_copy(update={"placement": near}),
        gpu={"type": "nvidia-l4", "count": 1},
        gcp={"project": "demo", "zone": ZONE, "machineType": "g2-standard-4"},
    )
    return create.model_copy(
        update={"candidate": create.candidate.model_copy(update={"machine_type": "g2-standard-4"})}
    )
