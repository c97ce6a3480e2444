"""The real gcloud on the emulated Compute Engine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.sandbox.gce_world import PROJECT, ZONE, World
from tests.sandbox.gce_world import world as running
from tests.sandbox.light_nodes import eventually

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        await made.running("vm-1")
        yield made


async def _gcloud(world: World, directory: Path, *arguments: str) -> Any:
    environment = os.environ | {
        "CLOUDSDK_CONFIG": str(directory / "gcloud"),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "true",
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{world.url}/compute/v1/",
    }
    process = await asyncio.create_subprocess_exec(
        "gcloud",
        "compute",
        *arguments,
        "--format=json",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    return json.loads(out or b"[]")


async def test_list_and_describe(world: World, tmp_path: Path) -> None:
    found = await _gcloud(world, tmp_path, "instances", "list", "--filter=labels.outlast-job=7f3a AND status=RUNNING")
    assert [vm["name"] for vm in found] == ["vm-1"]
    described = await _gcloud(world, tmp_path, "instances", "describe", "vm-1", f"--zone={ZONE}")
    assert described["scheduling"]["provisioningModel"] == "SPOT"


async def test_simulate_a_maintenance_event_and_find_it_among_the_operations(world: World, tmp_path: Path) -> None:
    world.machines["vm-1"].shutdown = 5.0  # gcloud reads the VM once more when its operation is done
    await _gcloud(world, tmp_path, "instances", "simulate-maintenance-event", "vm-1", f"--zone={ZONE}")

    async def gone() -> bool:
        return not world.gce.instances()

    await eventually("preemption of vm-1", gone)
    found = await _gcloud(
        world, tmp_path, "operations", "list", "--filter=operationType=compute.instances.preempted", f"--zones={ZONE}"
    )
    assert [operation["targetLink"].rsplit("/", 1)[-1] for operation in found] == ["vm-1"]


async def test_delete(world: World, tmp_path: Path) -> None:
    await _gcloud(world, tmp_path, "instances", "delete", "vm-1", f"--zone={ZONE}")
    assert world.gce.instances() == []
