"""Two bridges as they are deployed: one acts, is delayed or stopped, and then the other one acts."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
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
from tests.bridge.recorder import eventually, heard
from tests.bridge.test_main import write_kubeconfig

LEASE = 10.0  # seconds
QUIET = 1.5  # seconds in which something that must not be reported would have been reported


class Standing:
    """One process."""

    def __init__(self, pod: str, environment: dict[str, str]) -> None:
        self._health, self._metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._environment = environment | {
            "OUTLAST_POD": pod,
            "OUTLAST_HEALTH_ADDRESS": self._health,
            "OUTLAST_METRICS_ADDRESS": self._metrics,
        }
        self.process: asyncio.subprocess.Process

    @asynccontextmanager
    async def running(self, log: Path) -> AsyncIterator[None]:
        with log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "crd_bridge",
                cwd=REPOSITORY, env={**os.environ, **self._environment}, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def _get(self, address: str, path: str) -> str:
        limit = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(f"http://{address}{path}") as answer:
            return await answer.text()

    async def acts(self) -> bool:
        """True if it acts, by its readiness and its metrics."""
        metrics = await self._get(self._metrics, "/metrics")
        active = [line.split()[-1] for line in metrics.splitlines() if line.startswith("outlast_bridge_active")]
        return await self._get(self._health, "/readyz") == "ok\n" and active == ["1"]

    async def stands_by(self) -> bool:
        """True if it is ready, and says who acts instead."""
        said = await self._get(self._health, "/readyz")
        assert await self._get(self._health, "/healthz") == "ok\n"
        return said.startswith("ok\nstanding by: ")


@pytest.fixture
async def environment(control_plane: Any, installed: None, temporal: Any, tmp_path: Path) -> dict[str, str]:
    token = await control_plane.kubectl("create", "token", "outlast-bridge", "-n", "outlast-system")
    config = write_kubeconfig(tmp_path, control_plane.url, control_plane.ca_file, token.strip())
    lease = ("lease", names.BRIDGE_LEASE, "-n", "outlast-system", "--ignore-not-found")
    await control_plane.kubectl("delete", *lease)  # of a bridge that an earlier test has killed
    return {"KUBECONFIG": str(config), "TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_CONFIG_FILE": os.devnull}


async def test_the_other_one_acts_while_one_is_held_up_and_when_one_is_stopped(
    environment: dict[str, str],
    namespace: str,
    apply: Any,
    job: Any,
    control_plane: Any,
    recording: Client,
    tmp_path: Path,
) -> None:
    first, second = (Standing(pod, environment) for pod in ("bridge-a", "bridge-b"))

    async def runs(name: str) -> bool:
        try:
            found = await recording.get_workflow_handle(names.job_workflow_id(namespace, name)).describe()
        except RPCError:
            return False
        return found.status == WorkflowExecutionStatus.RUNNING

    async def notices() -> list[dict[str, Any]]:
        return await heard(recording, f"{namespace}/train", "preemption_notice")

    async with first.running(tmp_path / "first"):
        await eventually(first.acts, "the first one acts")
        async with second.running(tmp_path / "second"):
            await eventually(second.stands_by, "the second one stands by")
            await apply(job)
            await eventually(lambda: runs("train"), "the workflow of a job")

            first.process.send_signal(signal.SIGSTOP)  # like a frozen VM
            stopped = time.monotonic()
            await control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(marked(namespace)))
            await apply({**job, "metadata": {"name": "later"}})
            await eventually(notices, "the notice of that time is told")
            assert time.monotonic() - stopped < LEASE + 60
            await eventually(lambda: runs("later"), "the workflow of a job of that time")
            await eventually(second.acts, "the second one acts")

            first.process.send_signal(signal.SIGCONT)
            await eventually(first.stands_by, "the first one stands by")
            assert await second.acts()
            assert len(await notices()) == 1

            async def kept() -> bool:
                lease = await control_plane.kubectl(
                    "get", "lease", names.BRIDGE_LEASE, "-n", "outlast-system", "-o", "json"
                )
                told = json.loads(json.loads(lease)["metadata"]["annotations"][names.ANNOTATION_BRIDGED])
                return bool(told["versions"]["nodes"] >= int(await marked_at(control_plane, namespace)))

            await eventually(kept, "the Lease says what was told")
            second.process.send_signal(signal.SIGTERM)
            assert await second.process.wait() == 0
            of_lease = ("lease", names.BRIDGE_LEASE, "-n", "outlast-system")
            holder = await control_plane.kubectl("get", *of_lease, "-o", "jsonpath={.spec.holderIdentity}")
            assert holder != "bridge-b", "nobody waits until its term is over"
            await eventually(first.acts, "it acts again")
            await asyncio.sleep(QUIET)
            assert len(await notices()) == 1  # and nothing again that the other one has reported
            await control_plane.kubectl("delete", "node", f"node-{namespace}")


async def marked_at(control_plane: Any, namespace: str) -> str:
    """Return the version of that Node."""
    version = "jsonpath={.metadata.resourceVersion}"
    return str(await control_plane.kubectl("get", "node", f"node-{namespace}", "-o", version))


def marked(namespace: str) -> Any:
    """Make a Node that was bought for the job ``train`` and whose end is announced."""
    annotations = {names.ANNOTATION_WORKFLOW: f"{namespace}/train"}
    taint = {"key": names.TAINT_PREEMPTED, "value": "x", "effect": "NoSchedule"}
    metadata = {"name": f"node-{namespace}", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}}
