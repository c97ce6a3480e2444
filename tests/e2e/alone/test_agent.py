"""The node agent's image cannot be pulled: the job reports it, trains on, and reports when the agent is back."""

from __future__ import annotations

import json

import pytest

from sandbox.demo.observer import condition
from tests.e2e.rig import Rig, Running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def use_image(rig: Rig, image: str) -> None:
    change = {"spec": {"template": {"spec": {"containers": [{"name": "agent", "image": image}]}}}}
    await rig.kubectl("patch", "daemonset", "outlast-agent", "-n", "outlast-system", "-p", json.dumps(change))


def agent_ready(job: Running) -> str:
    return str(condition(job.object, "AgentReady").get("status", ""))


async def test_a_bought_node_without_its_agent_says_so(rig: Rig, namespace: str) -> None:
    where = ("get", "daemonset", "outlast-agent", "-n", "outlast-system")
    image = await rig.kubectl(*where, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    private = f"{rig.addresses['REGISTRY']}/private/outlast:1"
    await use_image(rig, private)
    try:
        job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
        await job.until(lambda: agent_ready(job) == "False", 120, "the job to say that its node lacks the agent")
        told = condition(job.object, "AgentReady")
        assert told["reason"] == "ImagePullBackOff"
        for words in (job.vm(0), private, "deploy/components/private-registry"):
            assert words in told["message"]
        await job.until(lambda: job.told("AgentMissing"), 30, "an Event")
        assert job.told("AgentMissing") == [told["message"]]
        assert job.phase(0) == "Running"
    finally:
        await use_image(rig, image)
    await job.until(lambda: agent_ready(job) == "True", 200, "the job to say that the agent is back")
    assert job.phase(0) == "Running"
