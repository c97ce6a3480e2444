"""A job as teams with Kueue submit it: queue label, suspended, priority class, dedicated nodes. Kueue is played."""

from __future__ import annotations

import asyncio
import json
import secrets

import pytest

from api.queues import QUEUE_LABEL
from sandbox.demo.observer import Json, condition
from tests import kueue
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_a_job_in_a_queue_buys_one_vm_once_it_is_let_in(rig: Rig, namespace: str) -> None:
    gcp = {"project": f"project-{secrets.token_hex(3)}", "zone": "us-central1-a", "machineType": "n1-standard-4"}
    async with kueue.webhook(rig.kubectl, namespace):
        await rig.apply(namespace, machine(gcp=gcp), CREDENTIALS, queued(rig.job(replicas=1)))
        job = Running(rig, namespace, "job")
        said = await job.until(lambda: held(job), 60, "condition Queued")
        assert f"queue research holds Job job-{job.id}-r0-i0" in said["message"]
        await asyncio.sleep(5)  # longer than it takes to request a VM
        assert bought(rig, job) == set()
        [waiting] = await kueue.waiting(rig.kubectl, namespace)
        await kueue.admit(rig.kubectl, namespace, waiting)
        await job.completed(seconds=240)
    assert job.entry(0)["incarnation"] == 0
    assert len(bought(rig, job)) == 1
    found = json.loads(await rig.kubectl("get", "job", waiting, "-n", namespace, "-o", "json"))
    assert found["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "research-high"
    await rig.delete(namespace, rig.job())
    await job.nothing_left(but=("spotinstancevms",))


def queued(job: Json) -> Json:
    """Make the job for a team's queue."""
    job["metadata"]["labels"] = {QUEUE_LABEL: "research"}
    template = job["spec"]["jobTemplate"]
    template["metadata"] = {"labels": {QUEUE_LABEL: "research", "kueue.x-k8s.io/priority-class": "research-high"}}
    template["spec"] |= {"suspend": True, "parallelism": 1, "completions": 1, "ttlSecondsAfterFinished": 600}
    template["spec"]["template"]["spec"]["tolerations"] = [
        {"key": "dedicated", "operator": "Equal", "value": "research", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    ]
    return job


def held(job: Running) -> Json | None:
    found = condition(job.object, "Queued")
    return found if found and found["status"] == "True" and found["reason"] == "HeldByQueue" else None


def bought(rig: Rig, job: Running) -> set[str]:
    """List the VMs of this job that ever existed."""
    return {each["name"] for each in rig.observer.ledger if each["name"].startswith(f"outlast-{job.id}-")}
