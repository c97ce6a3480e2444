"""People do what they should not, on a whole cloud. One sweep finds what they left, and touches nothing else."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from sandbox.errors import SandboxError
from tests import vms
from tests.e2e.alone.keys import Codec
from tests.e2e.rig import Json, Rig, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(480)]

FOREIGN = "outlast-ffffffff-r0-v1-t1"  # another cluster's, by its labels; its name could be ours


async def test_what_is_left_goes_and_what_lives_or_is_anothers_stays(rig: Rig, codec: Codec) -> None:
    """Workflows are terminated, finalizers removed by force, a namespace deleted."""
    lives, left = await rig.namespace(), await rig.namespace()
    bought = machine(gcp={"project": vms.PROJECT, "zone": vms.ZONE, "machineType": "n1-standard-4"})
    await vms.insert(rig.addresses["GCE_ENDPOINT"], FOREIGN, {}, labels={"outlast-cluster": "another"})
    job, lost = await asyncio.gather(
        *(rig.start(each, rig.job(replicas=1, interval="20s"), bought) for each in (lives, left))
    )
    await lost.checkpointed()
    training, vm, orphan = job.training(0), job.vm(0), lost.vm(0)

    for workflow in (f"{left}/{lost.name}", f"vm:{lost.id}-r0-v1"):
        await codec.workflow("terminate", "-w", workflow, "--reason", "a test")
    force = json.dumps({"metadata": {"finalizers": None}})
    await rig.kubectl("patch", "sij", lost.name, "-n", left, "--type=merge", "-p", force)
    await rig.kubectl("delete", "sij", lost.name, "-n", left)
    await rig.kubectl("delete", "namespace", left, "--wait=false")

    told = await _sweep(rig, codec, dryRun=True)
    assert orphan in str(told["machines"]["orphans"])
    assert told["finalizers"]["orphans"] == [f"{left}/{lost.name} ({lost.id})"]
    assert job.id not in str(told)
    assert FOREIGN not in str(told)
    assert orphan in _vms(rig)

    told = await _sweep(rig, codec)
    assert told["machines"]["swept"] == 1
    assert "it still has machines" in str(told["finalizers"]["failed"])
    await rig.until(
        lambda: orphan not in _vms(rig) and not rig.observer.get("nodes", orphan), 60, "the VM and its Node to be gone"
    )
    async with asyncio.timeout(150):  # the VM's workflow ends a moment later
        while not (await _sweep(rig, codec))["finalizers"]["swept"]:
            pass
    await _gone(rig, left)

    assert (job.training(0), job.vm(0)) == (training, vm)
    assert {vm, FOREIGN} <= set(_vms(rig))
    step = job.step(0)
    await rig.until(lambda: job.step(0) > step, 20, "the other job to train on")
    told = await _sweep(rig, codec)
    assert not any(kind["orphans"] for kind in told.values())

    await vms.delete(rig.addresses["GCE_ENDPOINT"], FOREIGN)
    await rig.kubectl("delete", "namespace", lives, "--timeout=300s", deadline=310)


async def _sweep(rig: Rig, codec: Codec, **more: Any) -> dict[str, Json]:
    """Sweep by hand, with nothing too young, and return what it says of each kind."""
    cluster = await rig.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    request = {"clusterID": cluster, "namespace": "outlast-system", "grace": -5, "anyway": True, **more}
    answer = await codec.workflow(
        "execute", "--type", "Sweep", "--task-queue", "outlast", "--workflow-id", f"sweep-{secrets.token_hex(4)}",
        "--input", json.dumps(request),
    )  # fmt: skip
    report = answer["result"]
    assert not report["unreadable"]
    return {kind["kind"]: kind for kind in report["kinds"]}


def _vms(rig: Rig) -> list[str]:
    return [vm["name"] for vm in rig.observer.vms]


async def _gone(rig: Rig, namespace: str) -> None:
    try:
        await rig.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=300s", deadline=310)
    except SandboxError as error:
        held = await rig.kubectl("get", "namespace", namespace, "-o", "jsonpath={.status.conditions[*].message}")
        raise AssertionError(held) from error
