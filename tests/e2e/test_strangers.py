"""GPU pods of another team beside a job that buys. They tolerate nvidia.com/gpu, as GPU pods conventionally do.

Each story has machines of its own: the strangers ask for nodes with the label of the job beside which they run.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

import pytest

from sandbox.demo.observer import Json, condition, holds
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
EVERYTHING = {"operator": "Exists"}


async def test_a_gpu_that_is_free_on_a_bought_node_is_not_a_strangers(rig: Rig, namespace: str) -> None:
    await keeps_a_free_gpu(rig, namespace)


async def keeps_a_free_gpu(rig: Rig, namespace: str) -> None:
    """Buy a machine with a spare GPU, which a stranger wants: only node agents come, also when created again."""
    job = await bought(rig, namespace, gpus=2)
    await apply(rig, namespace, device_plugin(rig, job), stranger(rig, job, GPU))
    await job.trains(0)
    node, plugin = job.vm(0), await running_plugin(rig, namespace, job)
    assert plugin["spec"]["nodeName"] == node
    assert not place_of_stranger(rig, namespace)

    # The device plugin's pod is deleted while the protection is on. It comes back, and nobody else comes with it.
    await rig.kubectl("delete", "pod", plugin["metadata"]["name"], "--namespace", namespace)
    again = await running_plugin(rig, namespace, job, but=plugin["metadata"]["uid"])
    assert again["spec"]["nodeName"] == node
    await asyncio.sleep(2)
    assert not place_of_stranger(rig, namespace)
    await rig.until(lambda: why_stranger_waits(rig, namespace) == "Unschedulable", 30, "the stranger to wait")

    # So it is once somebody has uncordoned the node: the GPU is kept for the replica that may start again.
    began = time.time()
    await rig.kubectl("uncordon", node)
    await rig.until(lambda: cordons(rig, node, began)[:1] == [False], 20, "the cordon to be gone")
    await rig.until(lambda: cordons(rig, node, began)[-1], 20, "the cordon to be back")


async def test_a_stranger_that_tolerates_everything_is_told_of_and_its_vm_is_given_up(rig: Rig, namespace: str) -> None:
    job = await bought(rig, namespace, gpus=1)
    await apply(rig, namespace, stranger(rig, job, EVERYTHING))
    taken = await job.until(lambda: capacity(job, "RoomTaken"), 120, "condition RoomTaken")
    assert f"{namespace}/stranger on {place_of_stranger(rig, namespace)}: too few free GPUs" in taken["message"]
    first = place_of_stranger(rig, namespace)
    await job.until(lambda: job.told("RoomTaken"), 30, "an Event")
    # It goes with its machine. Nothing creates it again, so the next machine is the job's.
    await job.trains(0, seconds=240)
    assert job.vm(0) != first
    await job.until(lambda: holds(job.object, "CapacityAvailable"), 30, "condition CapacityAvailable")


async def bought(rig: Rig, namespace: str, gpus: int) -> Running:
    """Make a job that buys machines with so many GPUs and uses one of them; it has an id."""
    gcp = {"project": f"project-{secrets.token_hex(3)}", "zone": "us-central1-a", "machineType": "n1-standard-4"}
    gpu = {"type": "nvidia-tesla-t4", "count": gpus}
    await rig.apply(namespace, machine(gcp=gcp, gpu=gpu), CREDENTIALS, rig.job(replicas=1))
    job = Running(rig, namespace, "job")
    await job.until(lambda: job.id, 30, "its id")
    return job


async def apply(rig: Rig, namespace: str, *documents: Json) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
    await rig.kubectl("apply", "--namespace", namespace, "-f", "-", stdin=text)


def stranger(rig: Rig, job: Running, toleration: Json) -> Json:
    """Make a pod that wants one GPU of the job's node, before there is such a node."""
    spec = {"tolerations": [toleration], **idle(rig, job)}
    spec["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}


def device_plugin(rig: Rig, job: Running) -> Json:
    """Make a DaemonSet with the tolerations of NVIDIA's."""
    labels = {"app": "device-plugin"}
    template = {"metadata": {"labels": labels}, "spec": {"tolerations": [GPU], **idle(rig, job)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "device-plugin"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def idle(rig: Rig, job: Running) -> Json:
    """Make a pod on the job's nodes that does nothing."""
    image = rig.addresses.get("TRAINING_IMAGE", "example.com/train:1")
    env = [{"name": "SANDBOX_STEP_SECONDS", "value": "1e9"}]
    return {
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"training.dcnlab.com/job": job.id},
        "containers": [{"name": "main", "image": image, "env": env}],
    }


async def running_plugin(rig: Rig, namespace: str, job: Running, but: str = "") -> Json:
    """Wait until the device plugin's pod runs, and return it."""

    def found() -> Any:
        pods = rig.observer.all("pods", namespace)
        mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get("app") == "device-plugin"]
        ready = [pod for pod in mine if holds(pod, "Ready") and pod["metadata"]["uid"] != but]
        return ready[0] if ready else None

    return dict(await job.until(found, 60, "the device plugin to run"))


def place_of_stranger(rig: Rig, namespace: str) -> str:
    return str((rig.observer.get("pods", "stranger", namespace) or {"spec": {}})["spec"].get("nodeName") or "")


def why_stranger_waits(rig: Rig, namespace: str) -> str:
    return str(condition(rig.observer.get("pods", "stranger", namespace), "PodScheduled").get("reason"))


def cordons(rig: Rig, node: str, since: float) -> list[bool]:
    """List whether the node was cordoned after each of its changes since a moment (Unix time)."""
    changes = [each for each in rig.observer.history if (each.kind, each.name) == ("nodes", node) and each.at >= since]
    return [bool(each.object["spec"].get("unschedulable")) for each in changes]


def capacity(job: Running, reason: str) -> Json | None:
    conditions = job.status.get("conditions") or []
    return next((c for c in conditions if (c["type"], c["reason"]) == ("CapacityAvailable", reason)), None)
