"""`python -m crd_bridge` as it is deployed: its process, its rights, and what it says if it cannot run."""

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    ScheduleState,
    WorkflowExecutionStatus,
)

from api import names
from clients.settings import connections
from sandbox.claims import free_port
from sandbox.kubeconfig import by_token, kubeconfig
from tests.bridge.conftest import StartModule
from tests.bridge.recorder import eventually

Start = Callable[..., Any]
NOBODY = "127.0.0.1:1"


def write_kubeconfig(directory: Path, url: str, authority: Path, token: str) -> Path:
    config = directory / "kubeconfig"
    config.write_text(kubeconfig(url, authority.read_bytes(), "outlast-bridge", by_token(token)))
    return config


@pytest.fixture
async def environment(control_plane: Any, installed: None, temporal: Any, tmp_path: Path) -> dict[str, str]:
    """Return the environment of the bridge's ServiceAccount, which may do no more than its role says."""
    token = await control_plane.kubectl("create", "token", "outlast-bridge", "-n", "outlast-system")
    config = write_kubeconfig(tmp_path, control_plane.url, control_plane.ca_file, token.strip())
    return {"KUBECONFIG": str(config), "TEMPORAL_ADDRESS": temporal.address, "OUTLAST_CONNECT_DEADLINE": "60"}


@pytest.fixture
async def start(environment: dict[str, str], start_module: StartModule) -> Start:
    """Start the bridge with changes to its environment."""

    async def run(**changes: str) -> asyncio.subprocess.Process:
        return await start_module("crd_bridge", {**environment, **changes})

    return run


async def last_words(process: asyncio.subprocess.Process) -> str:
    """Return its last line before it exits with 1."""
    _, said = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 1, said.decode()
    assert b"Traceback" not in said
    return said.decode().splitlines()[-1]


async def test_it_bridges_with_the_rights_that_it_is_given(
    start: Start, namespace: str, apply: Any, job: Any, recording: Client
) -> None:
    health, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    process = await start(OUTLAST_HEALTH_ADDRESS=health, OUTLAST_METRICS_ADDRESS=metrics)

    async def fetch(url: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(url, raise_for_status=True) as answer:
            return await answer.text()

    assert await eventually(lambda: fetch(f"http://{health}/healthz"), "it is well", 120) == "ok\n"
    await apply(job)

    async def running() -> bool:
        found = await recording.get_workflow_handle(f"{namespace}/train").describe()
        return found.status == WorkflowExecutionStatus.RUNNING

    await eventually(running, "the workflow runs")
    counted = re.compile(rf'^outlast_jobs{{job_namespace="{namespace}",.*state="Waiting"}} 1$', re.MULTILINE)

    async def counts() -> str | None:
        told = await fetch(f"http://{metrics}/metrics")
        return told if counted.search(told) else None

    told = await eventually(counts, "the job is counted", 120)
    assert "outlast_bridge_lists{" in told
    assert 'start="begin"' in told
    process.send_signal(signal.SIGTERM)
    _, said = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0
    assert b"forbidden" not in said


async def test_no_temporal_is_one_line(start: Start) -> None:
    said = await last_words(await start(TEMPORAL_ADDRESS=NOBODY, OUTLAST_CONNECT_DEADLINE="3"))
    assert said.startswith(f"crd_bridge: Temporal at {NOBODY} was not reached in 3 s")
    assert said.endswith("start it or set TEMPORAL_ADDRESS")


async def test_a_missing_temporal_namespace_is_one_line(start: Start) -> None:
    said = await last_words(await start(TEMPORAL_NAMESPACE="nowhere"))
    assert "has no namespace 'nowhere': create it with `temporal operator namespace create nowhere`" in said


async def test_no_api_server_is_one_line(start: Start, control_plane: Any, tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path, f"https://{NOBODY}", control_plane.ca_file, "a-token")
    said = await last_words(await start(KUBECONFIG=str(config), OUTLAST_CONNECT_DEADLINE="3"))
    assert said.startswith("crd_bridge: the Kubernetes API server was not reached in 3 s")
    assert said.endswith("check KUBECONFIG")


async def test_no_kubeconfig_is_one_line(start: Start) -> None:
    said = await last_words(await start(KUBECONFIG="/nowhere"))
    assert said.startswith("crd_bridge: no way to reach Kubernetes")


async def test_the_temporal_namespace_of_another_cluster_is_refused(start: Start, client: Client) -> None:
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(names.SWEEP_WORKFLOW, id=names.SWEEP_SCHEDULE, task_queue=names.TASK_QUEUE),
        spec=ScheduleSpec(),
        state=ScheduleState(paused=True),
    )
    handle = await client.create_schedule(names.SWEEP_SCHEDULE, schedule, memo={"cluster": "another-cluster"})
    try:
        said = await last_words(await start())
    finally:
        await handle.delete()
    assert "the Temporal namespace 'default' belongs to the cluster another-cluster" in said
    assert said.endswith("give each cluster a namespace of its own (TEMPORAL_NAMESPACE)")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("OUTLAST_CONNECT_DEADLINE", "soon", "OUTLAST_CONNECT_DEADLINE='soon' is not a number of seconds"),
        ("OUTLAST_HEALTH_ADDRESS", "8081", "OUTLAST_HEALTH_ADDRESS='8081' is not host:port"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="is not") as refused:
        connections({name: value})
    assert complaint in str(refused.value)
