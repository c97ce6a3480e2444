"""What the emulated cloud offers: regions, zones, machine types, accelerators and disk types.

It is a small excerpt of Google's lists. Names and sizes are real, and so is which accelerator goes with which family.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.gce.links import self_link

CREATED = "1969-12-31T16:00:00.000-08:00"
"""When zones, types and projects were made, as the service itself says of its zones."""

REGIONS: Mapping[str, tuple[str, ...]] = {
    "us-central1": ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"),
    "us-east1": ("us-east1-b", "us-east1-c", "us-east1-d"),
    "us-west1": ("us-west1-a", "us-west1-b", "us-west1-c"),
    "europe-west4": ("europe-west4-a", "europe-west4-b", "europe-west4-c"),
    "asia-east1": ("asia-east1-a", "asia-east1-b", "asia-east1-c"),
}
ZONES: tuple[str, ...] = tuple(zone for zones in REGIONS.values() for zone in zones)

DISK_TYPES = ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced")

CPU_PLATFORMS = (
    "Intel Sandy Bridge", "Intel Ivy Bridge", "Intel Haswell", "Intel Broadwell", "Intel Skylake",
    "Intel Cascade Lake", "Intel Ice Lake", "Intel Sapphire Rapids",
)  # fmt: skip


@dataclass(frozen=True)
class Accelerator:
    """A GPU model. ``cpus_by_count`` says how many GPUs an N1 VM may have, and how many vCPUs at most with so many."""

    name: str
    description: str
    zones: tuple[str, ...]
    cpus_by_count: Mapping[int, int]


@dataclass(frozen=True)
class MachineType:
    """A VM size. ``gpu`` and ``gpu_count`` are those built into it; ``zones`` are those that have it."""

    name: str
    cpus: int
    memory_mb: int
    zones: tuple[str, ...]
    gpu: str | None = None
    gpu_count: int = 0
    no_disk_types: frozenset[str] = frozenset()

    @property
    def family(self) -> str:
        """The machine family: ``n1``, ``a2``, …."""
        return self.name.split("-", 1)[0]


def _zones(*regions: str) -> tuple[str, ...]:
    """Expand zones that are written short: ``us-east1-cd`` means us-east1-c and us-east1-d."""
    return tuple(f"{region}-{letter}" for region, letters in (r.rsplit("-", 1) for r in regions) for letter in letters)


_T4 = _zones("us-central1-abcf", "us-east1-cd", "us-west1-ab", "europe-west4-abc", "asia-east1-ac")
_P4 = _zones("us-central1-ac", "europe-west4-bc")
_V100 = _zones("us-central1-abcf", "us-east1-c", "us-west1-ab", "europe-west4-abc", "asia-east1-c")
_P100 = _zones("us-central1-cf", "us-east1-bc", "us-west1-ab", "europe-west4-a", "asia-east1-ac")
_A100 = _zones("us-central1-abcf", "us-east1-b", "us-west1-b", "europe-west4-ab")
_A100_80 = _zones("us-central1-ac", "us-east1-b", "europe-west4-a")
_L4 = _zones("us-central1-abc", "us-east1-bcd", "us-west1-abc", "europe-west4-abc", "asia-east1-ab")
_H200 = _zones("us-central1-b", "us-east1-d", "europe-west4-a")
_B200 = _zones("us-central1-b")
_H100 = _zones("us-central1-ac", "us-east1-d", "us-west1-ab", "europe-west4-bc")

ACCELERATORS: Mapping[str, Accelerator] = {
    accelerator.name: accelerator
    for accelerator in (
        Accelerator("nvidia-tesla-t4", "NVIDIA T4", _T4, {1: 48, 2: 48, 4: 96}),
        Accelerator("nvidia-tesla-p4", "NVIDIA Tesla P4", _P4, {1: 24, 2: 48, 4: 96}),
        Accelerator("nvidia-tesla-v100", "NVIDIA Tesla V100", _V100, {1: 12, 2: 24, 4: 48, 8: 96}),
        Accelerator("nvidia-tesla-p100", "NVIDIA Tesla P100", _P100, {1: 16, 2: 32, 4: 96}),
        Accelerator("nvidia-tesla-a100", "NVIDIA A100 40GB", _A100, {}),
        Accelerator("nvidia-a100-80gb", "NVIDIA A100 80GB", _A100_80, {}),
        Accelerator("nvidia-l4", "NVIDIA L4", _L4, {}),
        Accelerator("nvidia-h100-80gb", "NVIDIA H100 80GB", _H100, {}),
        Accelerator("nvidia-h200-141gb", "NVIDIA H200 141GB", _H200, {}),
        Accelerator("nvidia-b200", "NVIDIA B200 180GB", _B200, {}),
    )
}


# Boot disks that families refuse: https://cloud.google.com/compute/docs/disks/hyperdisks
_NO_HYPERDISK = frozenset({"hyperdisk-balanced"})
_NO_PD_STANDARD = frozenset({"pd-standard"})
_NO_PD = frozenset({"pd-standard", "pd-balanced", "pd-ssd"})


def _machine_types() -> list[MachineType]:
    gib = 1024
    types = [
        MachineType(f"{family}-{kind}-{cpus}", cpus, int(cpus * per_cpu * gib), ZONES, no_disk_types=refused)
        for family, kind, per_cpu, sizes, refused in (
            ("n1", "standard", 3.75, (1, 2, 4, 8, 16, 32, 64, 96), _NO_HYPERDISK),
            ("n1", "highmem", 6.5, (2, 4, 8, 16, 32, 64, 96), _NO_HYPERDISK),
            ("n1", "highcpu", 0.9, (2, 4, 8, 16, 32, 64, 96), _NO_HYPERDISK),
            ("n2", "standard", 4, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128), _NO_HYPERDISK),
            ("e2", "standard", 4, (2, 4, 8, 16, 32), _NO_HYPERDISK),
            ("c3", "standard", 4, (4, 8, 22, 44, 88, 176), _NO_PD_STANDARD),
            ("c4", "standard", 3.75, (2, 4, 8, 16, 32, 48, 96, 192), _NO_PD),
            ("n4", "standard", 4, (2, 4, 8, 16, 32, 48, 64, 80), _NO_PD),
            ("h3", "standard", 4, (88,), _NO_PD_STANDARD),
        )
        for cpus in sizes
    ]
    for n in (1, 2, 4, 8):
        types.append(
            MachineType(f"a2-highgpu-{n}g", 12 * n, 85 * gib * n, _A100, "nvidia-tesla-a100", n, _NO_HYPERDISK)
        )
        types.append(
            MachineType(f"a2-ultragpu-{n}g", 12 * n, 170 * gib * n, _A100_80, "nvidia-a100-80gb", n, _NO_HYPERDISK)
        )
        types.append(
            MachineType(f"a3-highgpu-{n}g", 26 * n, 234 * gib * n, _H100, "nvidia-h100-80gb", n, _NO_PD_STANDARD)
        )
    types.append(MachineType("a2-megagpu-16g", 96, 1360 * gib, _A100, "nvidia-tesla-a100", 16, _NO_HYPERDISK))
    types.append(MachineType("a3-ultragpu-8g", 224, 2952 * gib, _H200, "nvidia-h200-141gb", 8, _NO_PD))
    types.append(MachineType("a4-highgpu-8g", 224, 3968 * gib, _B200, "nvidia-b200", 8, _NO_PD))
    for cpus, n in ((4, 1), (8, 1), (12, 1), (16, 1), (24, 2), (32, 1), (48, 4), (96, 8)):
        types.append(
            MachineType(
                f"g2-standard-{cpus}", cpus, 4 * gib * cpus, _L4, "nvidia-l4", n, _NO_PD_STANDARD | _NO_HYPERDISK
            )
        )
    return types


MACHINE_TYPES: Mapping[str, MachineType] = {machine_type.name: machine_type for machine_type in _machine_types()}


def region_of(zone: str) -> str:
    """Return the region of a zone."""
    return zone.rsplit("-", 1)[0]


def zone_resource(project: str, zone: str) -> dict[str, Any]:
    """Return the resource ``compute#zone``."""
    return {
        "kind": "compute#zone",
        "id": _id(zone),
        "creationTimestamp": CREATED,
        "name": zone,
        "description": zone,
        "status": "UP",
        "region": self_link(f"projects/{project}/regions/{region_of(zone)}"),
        "availableCpuPlatforms": list(CPU_PLATFORMS),
        "selfLink": self_link(f"projects/{project}/zones/{zone}"),
    }


def region_resource(project: str, region: str, quotas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the resource ``compute#region``, with its quotas and their usage."""
    return {
        "kind": "compute#region",
        "id": _id(region),
        "creationTimestamp": CREATED,
        "name": region,
        "description": region,
        "status": "UP",
        "zones": [self_link(f"projects/{project}/zones/{zone}") for zone in REGIONS[region]],
        "quotas": quotas,
        "selfLink": self_link(f"projects/{project}/regions/{region}"),
    }


def machine_type_resource(project: str, zone: str, machine_type: MachineType) -> dict[str, Any]:
    """Return the resource ``compute#machineType``."""
    resource: dict[str, Any] = {
        "kind": "compute#machineType",
        "id": _id(machine_type.name),
        "creationTimestamp": CREATED,
        "name": machine_type.name,
        "description": f"{machine_type.cpus} vCPUs, {machine_type.memory_mb / 1024:g} GB RAM",
        "guestCpus": machine_type.cpus,
        "memoryMb": machine_type.memory_mb,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "zone": zone,
        "isSharedCpu": False,
        "architecture": "X86_64",
        "selfLink": self_link(f"projects/{project}/zones/{zone}/machineTypes/{machine_type.name}"),
    }
    if machine_type.gpu:
        resource["accelerators"] = [
            {"guestAcceleratorType": machine_type.gpu, "guestAcceleratorCount": machine_type.gpu_count}
        ]
    return resource


def accelerator_type_resource(project: str, zone: str, accelerator: Accelerator) -> dict[str, Any]:
    """Return the resource ``compute#acceleratorType``."""
    built_in = [m.gpu_count for m in MACHINE_TYPES.values() if m.gpu == accelerator.name]
    return {
        "kind": "compute#acceleratorType",
        "id": _id(accelerator.name),
        "creationTimestamp": CREATED,
        "name": accelerator.name,
        "description": accelerator.description,
        "zone": self_link(f"projects/{project}/zones/{zone}"),
        "maximumCardsPerInstance": max(*accelerator.cpus_by_count, *built_in, 1),
        "selfLink": self_link(f"projects/{project}/zones/{zone}/acceleratorTypes/{accelerator.name}"),
    }


def project_number(project: str) -> int:
    """Return the number that belongs to a project's id."""
    return 10**11 + zlib.crc32(project.encode())


def _id(name: str) -> str:
    """Return a number that is the same in every run."""
    return str(zlib.crc32(name.encode()) + 1000)
