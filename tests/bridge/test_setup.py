"""`python -m worker` and `python -m worker.setup` as they are deployed: processes with their rights."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from sandbox.claims import free_port
from tests.bridge.conftest import StartModule
from tests.bridge.recorder import eventually
from tests.bridge.test_main import write_kubeconfig
from worker.versions import standing

NAMESPACE = "setup"  # of Temporal, because a worker would take the other tests' workflows
VERSION = WorkerDeploymentVersion("outlast", "0.2.0")
Start = Callable[..., Any]


@pytest.fixture
async def temporal_namespace(client: Client) -> Client:
    """Make a client of a Temporal namespace that nobody has used yet."""
    retention = Duration(seconds=86400)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=NAMESPACE, workflow_execution_retention_period=retention)
    )
    fresh = await Client.connect(client.service_client.config.target_host, namespace=NAMESPACE)

    async def known() -> bool:
        return await fresh.count_workflows() is not None

    await eventually(known, "the namespace is known everywhere")
    return fresh


@pytest.fixture
async def start(control_plane: Any, installed: None, temporal: Any, tmp_path: Path, start_module: StartModule) -> Start:
    """Start a module of the version, as its ServiceAccount."""
    environment = {
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": NAMESPACE,
        "TEMPORAL_DEPLOYMENT_NAME": VERSION.deployment_name,
        "TEMPORAL_WORKER_BUILD_ID": VERSION.build_id,
        "OUTLAST_CONNECT_DEADLINE": "60",
    }

    async def run(module: str, **changes: str) -> asyncio.subprocess.Process:
        account = f"outlast-{module.rpartition('.')[2]}"
        token = await control_plane.kubectl("create", "token", account, "-n", "outlast-system")
        (tmp_path / module).mkdir(exist_ok=True)
        config = write_kubeconfig(tmp_path / module, control_plane.url, control_plane.ca_file, token.strip())
        return await start_module(module, {**environment, "KUBECONFIG": str(config), **changes})

    return run


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Wait for its end, and return its exit code and its output."""
    _, said = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, said.decode()


async def test_a_fresh_installation_is_set_up(start: Start, temporal_namespace: Client) -> None:
    health, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    setup = await start("worker.setup")
    await start("worker", OUTLAST_HEALTH_ADDRESS=health, OUTLAST_METRICS_ADDRESS=metrics)
    code, said = await ended(setup)
    assert code == 0, said
    assert "version 0.2.0 is current from now on, after none" in said
    assert (await standing(temporal_namespace, VERSION)).is_current

    async def fetch(url: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(url, raise_for_status=True) as answer:
            return await answer.text()

    async def told() -> bool:
        return "outlast_worker_version_current{" in await fetch(f"http://{metrics}/metrics")

    await eventually(told, "the worker says whether its version is current")
    assert (await fetch(f"http://{health}/readyz")).startswith("ok\n")
    code, said = await ended(await start("worker.setup", TEMPORAL_DEPLOYMENT_NAME="", TEMPORAL_WORKER_BUILD_ID=""))
    assert code == 0, said
    assert "the worker has no version: nothing to make current" in said


async def test_no_temporal_is_one_line(start: Start) -> None:
    code, said = await ended(await start("worker.setup", TEMPORAL_ADDRESS="127.0.0.1:1", OUTLAST_CONNECT_DEADLINE="3"))
    assert code == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("worker.setup: Temporal at 127.0.0.1:1 was not reached in 3 s")
