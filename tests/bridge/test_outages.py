"""Bridge and worker while Temporal and the API server are unreachable: what they report, and that they continue."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from api import names
from sandbox.claims import free_port
from tests.bridge.conftest import REPOSITORY
from tests.bridge.proxy import Proxy, proxied
from tests.bridge.recorder import eventually
from tests.bridge.test_watch import kubeconfig_by


class Process:
    """One of the two, behind proxies that can cut it off from both servers."""

    def __init__(self, module: str, environment: dict[str, str], kubernetes: Proxy, temporal: Proxy) -> None:
        self._health, self._metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._command = [sys.executable, "-m", module]
        self._environment = environment | {
            "OUTLAST_HEALTH_ADDRESS": self._health,
            "OUTLAST_METRICS_ADDRESS": self._metrics,
        }
        self.kubernetes, self.temporal = kubernetes, temporal
        self.restarts = 0

    @asynccontextmanager
    async def running(self, log: Path) -> AsyncIterator[None]:
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *self._command, cwd=REPOSITORY, env={**os.environ, **self._environment}, stdout=file, stderr=file
            )
        try:
            yield
            assert process.returncode is None, f"it has ended, see {log}"
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def says(self, path: str) -> tuple[int, str]:
        """Return what a probe gets."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self._health}{path}") as answer:
            return answer.status, await answer.text()

    async def is_ready(self) -> bool:
        return await self.says("/readyz") == (200, "ok\n")

    async def misses(self, *sides: str) -> bool:
        """Wait until it is not ready because of these, and says so, without a reason to restart it."""
        status, said = await self.says("/readyz")
        assert await self.says("/healthz") == (200, "ok\n")
        return status == 503 and all(f"{side} has not answered" in said for side in sides)

    async def unreachable(self, side: str) -> float:
        """Return for how many seconds it has missed a server, by its metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self._metrics}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        (line,) = [each for each in lines if "outlast_unreachable_seconds{" in each and f'side="{side}"' in each]
        return float(line.split()[-1])


@pytest.fixture
async def proxies(control_plane: Any, temporal: Any) -> AsyncIterator[tuple[Proxy, Proxy]]:
    async with proxied(control_plane.endpoint) as kubernetes, proxied(temporal.address) as service:
        yield kubernetes, service


@pytest.fixture
def environment(control_plane: Any, proxies: tuple[Proxy, Proxy], tmp_path: Path) -> dict[str, str]:
    kubernetes, temporal = proxies
    config = kubeconfig_by(control_plane, kubernetes.address, tmp_path)
    return {"KUBECONFIG": str(config), "TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_CONFIG_FILE": os.devnull}


async def test_a_bridge_that_both_servers_leave_alone_says_so_and_catches_up(
    environment: dict[str, str],
    proxies: tuple[Proxy, Proxy],
    installed: None,
    namespace: str,
    apply: Any,
    job: Any,
    recording: Client,
    tmp_path: Path,
) -> None:
    bridge = Process("crd_bridge", environment, *proxies)

    async def runs(name: str) -> bool:
        try:
            found = await recording.get_workflow_handle(names.job_workflow_id(namespace, name)).describe()
        except RPCError:
            return False
        return found.status == WorkflowExecutionStatus.RUNNING

    async with bridge.running(tmp_path / "log"):
        await eventually(bridge.is_ready, "it is ready")
        await bridge.temporal.close()
        await apply(job)  # it hears of this, and cannot report it
        await eventually(lambda: bridge.misses("Temporal"), "it misses Temporal")
        await bridge.kubernetes.close()
        await apply({**job, "metadata": {"name": "unheard"}})
        await eventually(lambda: bridge.misses("Temporal", "Kubernetes"), "it misses both")
        assert await bridge.unreachable("Temporal") > 0
        assert not await runs("train")
        await asyncio.gather(bridge.temporal.open(), bridge.kubernetes.open())
        await eventually(bridge.is_ready, "it is ready again")
        for name in ("train", "unheard"):
            await eventually(lambda name=name: runs(name), f"the workflow of {name}")  # type: ignore[misc]

        async def told() -> bool:
            return await bridge.unreachable("Temporal") == await bridge.unreachable("Kubernetes") == 0

        await eventually(told, "the metrics tell that all is well")


async def test_a_worker_that_starts_in_an_outage_waits_for_its_end(
    environment: dict[str, str], proxies: tuple[Proxy, Proxy], client: Client, tmp_path: Path
) -> None:
    worker = Process("worker", environment, *proxies)
    await worker.temporal.close()

    async def waits() -> bool:
        return "Temporal at 127.0.0.1" in (tmp_path / "log").read_text()

    async def works() -> bool:
        found = await client.get_schedule_handle(names.SWEEP_SCHEDULE).describe()
        return found.id == names.SWEEP_SCHEDULE

    try:
        async with worker.running(tmp_path / "log"):
            await eventually(waits, "it says what it waits for")
            assert await worker.says("/healthz") == (200, "ok\n")
            assert await worker.says("/readyz") == (503, "Temporal and the API server have not both been reached yet\n")
            await worker.temporal.open()
            await eventually(worker.is_ready, "it is ready")
            assert await works()
    finally:
        await client.get_schedule_handle(names.SWEEP_SCHEDULE).delete()
