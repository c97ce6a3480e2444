"""A node whose GPUs the GPU operator's validator finds broken gets no replica."""

from __future__ import annotations

import pytest

from sandbox.demo.observer import Json
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def holds_back_until_healed(rig: Rig, namespace: str, manifest: Json) -> Running:
    """Let a job buy a node while every validator fails, check what it waits for, heal them, and return the job once it
    trains.
    """
    await rig.control.validator("fail")
    try:
        await rig.apply(namespace, machine(), CREDENTIALS, manifest)
        job = Running(rig, namespace, manifest["metadata"]["name"])

        def told() -> bool:
            return f"waiting for the GPU operator's validator on {job.vm(0)}" in job.entry(0).get("message", "")

        await job.until(told, 120, "the status to say what the node lacks")
        assert job.vm(0) in job.ready_nodes()
        assert job.phase(0) == "Joining"
        assert rig.observer.all("pods", namespace) == []
    finally:
        await rig.control.validator("heal")
    await job.trains(0)
    return job


async def test_node_with_a_failing_validator_takes_no_replica_until_it_is_well(rig: Rig, namespace: str) -> None:
    manifest = rig.job(replicas=1, interval="1h")
    job = await holds_back_until_healed(rig, namespace, manifest)
    validators = [pod for pod in rig.observer.all("pods", "kube-system") if pod["spec"]["nodeName"] == job.vm(0)]
    assert [pod["metadata"]["labels"]["app"] for pod in validators] == ["nvidia-operator-validator"]
