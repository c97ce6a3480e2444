"""VMs of the emulated cloud, bought over its REST API as by somebody without Outlast."""

from __future__ import annotations

import aiohttp

ZONE = "us-central1-a"
PROJECT = "outlast-tests"
INSTANCES = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
_IMAGE = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"


async def insert(
    endpoint: str, name: str, metadata: dict[str, str], *, gpus: int = 0, labels: dict[str, str] | None = None
) -> None:
    """Request a spot VM with `gpus` T4s."""
    body = {
        "name": name,
        "labels": labels or {},
        "machineType": f"zones/{ZONE}/machineTypes/n1-standard-4",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": _IMAGE}}],
        "networkInterfaces": [{"network": "global/networks/default"}],
        "scheduling": {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", "automaticRestart": False},
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata.items()]},
    }
    if gpus:
        accelerator = f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4"
        body["guestAccelerators"] = [{"acceleratorType": accelerator, "acceleratorCount": gpus}]
    async with aiohttp.ClientSession(endpoint) as session, session.post(INSTANCES, json=body) as answer:
        assert answer.status == 200, await answer.text()


async def delete(endpoint: str, name: str) -> None:
    """Request the deletion of a VM."""
    async with aiohttp.ClientSession(endpoint) as session, session.delete(f"{INSTANCES}/{name}") as answer:
        assert answer.status == 200, await answer.text()
