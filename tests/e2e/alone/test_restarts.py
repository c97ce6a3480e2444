"""What is killed comes back and continues."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import aiohttp
import pytest

from tests.e2e.rig import Rig

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]


async def test_restarted_bridge_does_not_start_a_finished_job_again(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
    await job.completed()
    await rig.until(lambda: not [vm for vm in rig.observer.vms if job.id in vm["name"]], 120, "its VM to be gone")
    await rig.control.kill("bridge")
    await rig.control.start("bridge")
    await asyncio.sleep(8)
    assert len(await _runs(rig, f"{namespace}/{job.name}")) == 1
    assert [each.incarnation for each in job.trainings.of(job.id)] == [0]
    assert not [vm for vm in rig.observer.vms if job.id in vm["name"]]


async def test_killed_worker_goes_on_with_the_recovery(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(interval="10s"))
    await job.checkpointed()
    before = job.training(0)
    await job.preempt(0)
    await rig.until(lambda: job.phase(0) != "Running", 10, "the recovery to begin")
    await rig.control.kill("worker")
    await asyncio.sleep(1)
    await rig.control.start("worker")
    await job.trains(0, but=(before,))
    assert job.training(0).first
    requested = [each for each in rig.observer.ledger if each["what"] == "requested" and job.id in each["name"]]
    assert len(requested) == 3, "two VMs, and one in place of the lost one"


async def _runs(rig: Rig, workflow: str) -> list[object]:
    """List the runs of a workflow, by the HTTP API that the Web UI uses."""
    query = quote(f'WorkflowId="{workflow}"')
    url = f"{rig.addresses['TEMPORAL_UI']}/api/v1/namespaces/default/workflows?query={query}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        return list((await answer.json())["executions"])
