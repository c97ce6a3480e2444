"""What people type every day, as the README says: kubectl, and the temporal CLI."""

from __future__ import annotations

import json
import re

import pytest

from tests.bridge.recorder import eventually
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_signals_and_queries_of_the_temporal_cli(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(interval="1h"))

    await job.signal("checkpoint_now")
    tag = await job.checkpointed()
    assert tag.startswith(job.id)

    before = job.training(0)
    await job.signal("preemption_notice", "--input", '{"replica": 0}')
    await job.trains(0, but=(before,))
    assert job.entry(0)["preemptions"] == 1

    answer = await job.temporal("query", "--type", "status", "--output", "json")
    status = json.loads(answer)["queryResult"][0]
    assert status["jobID"] == job.id
    assert {each["phase"] for each in status["jobStatuses"]} == {"Running"}

    await job.signal("resize", "--input", '{"replicas": 1}')
    await job.until(lambda: len(job.replicas) == 1, 60, "one replica")
    await job.until(lambda: (job.object or {})["spec"]["replicas"] == 1, 60, "kubectl and Temporal to agree")


async def test_requests_with_kubernetes_rights_alone(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(interval="1h"))

    async def request(value: str, state: str) -> str:
        where = (f"sij/{job.name}", "-n", namespace)
        await rig.kubectl("annotate", "--overwrite", *where, f"training.dcnlab.com/request={value}")

        async def answer() -> str | None:
            found = json.loads(await rig.kubectl("get", *where, "-o", "json"))["status"].get("request") or {}
            return found["message"] if (found.get("value"), found.get("state")) == (value, state) else None

        return str(await eventually(answer, f"{value} is {state}", deadline=400))

    assert (await request("checkpoint-now 1", "Done")).startswith("checkpoint 1 at step ")
    refused = await request("preemption-notice replica=5", "Refused")
    assert refused == "replica 5 does not exist: this job has replicas 0 to 1"

    async def warned() -> bool:
        where = ("-n", namespace, "--for", f"sij/{job.name}", "--types=Warning")
        return "RequestRefused" in await rig.kubectl("events", *where)

    await eventually(warned, "a warning")
    assert "runs again on node" in await request("preemption-notice replica=0 again", "Done")
    assert "checkpoint-now asks for a checkpoint" in " ".join(
        (await rig.kubectl("explain", "sij.status.request")).split()
    )


async def test_kubectl_shows_waits_scales_and_keeps_the_log(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
    assert job.name in await rig.kubectl("get", "sij", "-n", namespace)
    assert "completionPolicy" in await rig.kubectl("explain", "sij.spec")
    assert "vmImage" in await rig.kubectl("explain", "sivm.spec")
    await job.may_end()
    await rig.kubectl(
        "wait", f"sij/{job.name}", "-n", namespace, "--for=condition=Completed", "--timeout=300s", deadline=310
    )
    await rig.until(lambda: not [vm for vm in rig.observer.vms if job.id in vm["name"]], 120, "its VM to be gone")
    name = f"{job.name}-{job.id}-r0-log"
    log = await rig.kubectl("get", "configmap", name, "-n", namespace, "-o", "jsonpath={.data}")
    assert re.search(r"training done after \d+ steps", log)
    described = await rig.kubectl("describe", "sij", job.name, "-n", namespace)
    assert "Completed" in described
