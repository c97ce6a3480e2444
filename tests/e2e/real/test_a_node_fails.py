"""The node of the acting bridge and of one worker fails; within that minute a spot VM is preempted."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from sandbox.machines.real.requirements import obstacle
from tests.e2e.real.test_real_machines import has_agents
from tests.e2e.rig import NOTICE_SECONDS, Rig, Running

SYSTEM = "outlast-system"
LEASE = "outlast-bridge"

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]
if reason := obstacle():
    pytestmark.append(pytest.mark.skip(reason=reason))


async def acting(real: Rig) -> str:
    """Find the pod of the bridge that acts."""
    lease = json.loads(await real.kubectl("get", "lease", LEASE, "--namespace", SYSTEM, "-o", "json"))
    return str(lease["spec"].get("holderIdentity"))


def node_of(real: Rig, pod: str) -> str:
    found = real.observer.get("pods", pod, SYSTEM)
    assert found, f"{pod} is no pod of {SYSTEM}"
    return str(found["spec"]["nodeName"])


def components_on(real: Rig, node: str) -> set[str]:
    """Say which of worker and bridge run on a node."""
    pods = [pod for pod in real.observer.all("pods", SYSTEM) if pod["spec"].get("nodeName") == node]
    return {_component(pod) for pod in pods} & {"worker", "bridge"}


async def spread(real: Rig) -> None:
    """Let a bridge and a worker run on each node: after a failure or a start both may be on one, and none is moved."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        await available(real)
        found = [live(real, component) for component in ("worker", "bridge")]
        crowded = [pods for pods in found if len({_node(pod) for pod in pods}) < 2]
        if not crowded:
            return
        if len(crowded[0]) > 1:
            await real.kubectl("delete", "pod", crowded[0][0]["metadata"]["name"], "--namespace", SYSTEM, deadline=60)
        await asyncio.sleep(2)  # so that the observer sees it
    raise AssertionError("worker and bridge do not spread over both nodes within 240 s")


def live(real: Rig, component: str) -> list[Any]:
    """List the pods of a component that are on a node and stay there."""
    pods = [pod for pod in real.observer.all("pods", SYSTEM) if _component(pod) == component]
    return [pod for pod in pods if _node(pod) and "deletionTimestamp" not in pod["metadata"]]


def _node(pod: Any) -> str | None:
    return pod["spec"].get("nodeName")  # type: ignore[no-any-return]


async def available(real: Rig) -> None:
    await real.kubectl(
        "wait", "--namespace", SYSTEM, "deployment", "--all", "--for=condition=Available", "--timeout=180s",
        deadline=190,
    )  # fmt: skip


def _component(pod: Any) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component"))


def requested(job: Running, since: float) -> Any:
    """Return when the first checkpoint after a moment was requested; None before that."""
    seen = [
        each.at
        for each in job.observer.history
        if each.kind == "checkpointbackups"
        and each.type == "ADDED"
        and each.at > since
        and each.object["metadata"]["namespace"] == job.namespace
    ]
    return min(seen, default=None)


@pytest.mark.parametrize("after", [0.0, 5.0])
async def test_a_notice_of_the_minute_in_which_its_node_fails_is_answered_in_time(real: Rig, after: float) -> None:
    await spread(real)
    namespace = await real.namespace()
    job = await real.start(namespace, real.job(SANDBOX_STEPS=10**6, SANDBOX_STEP_SECONDS=0.2))
    await job.until(lambda: has_agents(job, 0) and has_agents(job, 1), 120, "agents to listen on the job's nodes")
    before, node = job.training(0), node_of(real, await acting(real))
    others = {each["metadata"]["name"] for each in real.observer.all("nodes")} - {node, job.vm(0), job.vm(1)}
    assert [components_on(real, each) for each in (node, *others)] == [{"worker", "bridge"}] * 2
    cut = asyncio.create_task(real.control.cut(node))  # it answers once all is swept up, seconds later
    try:
        await asyncio.sleep(after)
        noticed = time.time()
        (vm,) = await job.preempt(0)
        asked = await job.until(lambda: requested(job, noticed), 60, "the survivor's checkpoint")
        seconds = asked - (real.observer.happened("notice", vm) or noticed)
        print(f"cut, {after:.0f} s later a notice: the survivor's checkpoint was asked for {seconds:.1f} s after it")
        assert seconds < NOTICE_SECONDS
        await job.trains(0, but=(before,), seconds=300)
        assert job.training(0).first, "replica 0 began anew"
        assert node_of(real, await acting(real)) != node
    finally:
        await cut
        await real.control.boot(node)
        await real.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=120s", deadline=130)
        await real.kubectl("delete", "namespace", namespace, deadline=180)
    await job.nothing_left()
    await available(real)
