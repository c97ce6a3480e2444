"""What is missing or wrong is reported where people look, and the job continues once the missing thing appears."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from sandbox.demo.observer import condition, holds
from sandbox.errors import SandboxError
from tests.e2e.rig import CREDENTIALS, REPOSITORY, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_missing_vm_and_secret_are_told_one_after_the_other_and_heal(rig: Rig, namespace: str) -> None:
    await rig.apply(namespace, rig.job(replicas=1))
    job = Running(rig, namespace, "job")

    def refused(word: str) -> bool:
        found = condition(job.object, "Accepted")
        return found.get("status") == "False" and word in found.get("message", "")

    await job.until(lambda: refused("SpotInstanceVM"), 60, "Accepted=False that names the SpotInstanceVM")
    await rig.apply(namespace, machine())
    secret = CREDENTIALS["metadata"]["name"]
    await job.until(lambda: refused(secret), 60, "Accepted=False that names the Secret")
    assert not [vm for vm in rig.observer.vms if job.id in vm["name"]], "no money is spent before"
    await rig.apply(namespace, CREDENTIALS)
    await job.trains(0)
    assert holds(job.object, "Accepted")


async def test_stockout_is_told_and_heals(rig: Rig, namespace: str) -> None:
    zone = "us-central1-f"
    gcp = {"project": "my-project", "zone": zone, "machineType": "n1-standard-4"}
    await rig.control.fault("exhaust", zone)
    await rig.apply(namespace, machine(gcp=gcp), CREDENTIALS, rig.job(replicas=1))
    job = Running(rig, namespace, "job")

    def told() -> bool:
        found = condition(job.object, "CapacityAvailable")
        return found.get("status") == "False" and found["reason"] == "NoCapacity"

    await job.until(told, 60, "CapacityAvailable=False, NoCapacity")
    await rig.control.fault("restore_capacity", zone)
    await job.trains(0)
    assert holds(job.object, "CapacityAvailable")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replicas": 0}, "replicas"),
        ({"checkpointConfig": {"checkpointInterval": "soon"}}, "30m"),
        ({"spotInstanceVMRef": None}, "spotInstanceVMRef"),
        ({"jobTemplate": {"spec": {"completions": 4}}}, "completions"),
    ],
)
async def test_wrong_spec_is_refused_by_kubectl_apply(
    rig: Rig, namespace: str, change: dict[str, object], words: str
) -> None:
    manifest = rig.job()
    for key, value in change.items():
        if isinstance(value, dict):
            _merge(manifest["spec"][key], value)
        else:
            manifest["spec"][key] = value
    with pytest.raises(SandboxError, match=words):
        await rig.apply(namespace, manifest)


async def test_name_too_long_for_what_is_derived_from_it_is_refused(rig: Rig, namespace: str) -> None:
    with pytest.raises(SandboxError, match="40 characters"):
        await rig.apply(namespace, rig.job("a" * 41))


@pytest.mark.parametrize("module", ["worker", "crd_bridge"])
async def test_unreachable_temporal_ends_in_one_line(rig: Rig, module: str) -> None:
    kubeconfig = rig.settings.state_dir / f"{'worker' if module == 'worker' else 'bridge'}.kubeconfig"
    environment = {
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "KUBECONFIG": str(kubeconfig),
        "OUTLAST_CONNECT_DEADLINE": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=REPOSITORY, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 1
    last = errors.decode().strip().splitlines()[-1]
    assert "127.0.0.1:1" in last
    assert "TEMPORAL_ADDRESS" in last
    assert b"Traceback" not in errors


def _merge(target: dict[str, object], changes: dict[str, object]) -> None:
    for key, value in changes.items():
        inner = target.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            _merge(inner, value)
        else:
            target[key] = value
