"""The pods of a real Indexed Job on light nodes train together."""

from __future__ import annotations

import re
from typing import Any

from sandbox.kube_client import KubeClient
from sandbox.machines.light.kubelet.training import PEER_LOST
from tests.sandbox.light_nodes import Nodes, condition, env, eventually, training_pod

Json = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
SIZE = 3


class IndexedJob:
    """An Indexed Job with a pod on each of some nodes, and the logs of its members."""

    def __init__(self, admin: KubeClient, namespace: str, nodes: Nodes) -> None:
        self.admin = admin
        self.nodes = nodes
        self.path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, name: str, hosts: list[str], **variables: object) -> None:
        pod = training_pod("x", "", container={"env": env(WORLD_SIZE=SIZE, **variables)}, nodeSelector={})
        term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": hosts}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        pod["spec"]["affinity"] = {"nodeAffinity": required}
        sizes = {"completionMode": "Indexed", "completions": SIZE, "parallelism": SIZE, "backoffLimitPerIndex": 0}
        spec = {**sizes, "template": {"spec": pod["spec"]}}
        await self.admin.create(self.path, {"metadata": {"name": name}, "spec": spec})

    async def pods(self, name: str) -> dict[int, Json]:
        found = (await self.admin.get(self.pods_path, labelSelector=f"batch.kubernetes.io/job-name={name}"))["items"]
        return {int(pod["metadata"]["labels"][INDEX]): pod for pod in found}

    def steps(self, pod: Json) -> list[int]:
        """List the steps in a pod's log, also of a node that has gone."""
        directory = self.nodes.root(pod["spec"]["nodeName"]) / "var/log/pods"
        [log] = directory.glob(f"*_{pod['metadata']['uid']}/trainer/0.log")
        return [int(step) for step in re.findall(r"step=(\d+)/", log.read_text())]

    async def train(self, name: str, step: int) -> dict[int, Json]:
        """Wait until all members have made so many steps, and return their pods."""

        async def trains() -> dict[int, Json] | None:
            pods = await self.pods(name)
            running = [pod for pod in pods.values() if pod["status"].get("phase") == "Running"]
            return pods if len(running) == SIZE and all(step in self.steps(pod) for pod in running) else None

        return await eventually(f"step {step} of {name}", trains)


async def test_members_of_an_indexed_job_step_end_and_hang_together(
    admin: KubeClient, namespace: str, nodes: Nodes
) -> None:
    hosts = [await nodes.start() for _ in range(SIZE)]
    job = IndexedJob(admin, namespace, nodes)
    await job.create("whole", hosts, SANDBOX_STEPS=20)

    async def complete() -> bool:
        return bool(condition((await admin.get(f"{job.path}/whole"))["status"], "Complete"))

    await eventually("job Complete", complete)
    ended = await job.pods("whole")
    assert {member: job.steps(pod)[-1] for member, pod in ended.items()} == {0: 20, 1: 20, 2: 20}

    await job.create("told", hosts, SANDBOX_STEPS=10**6)
    pods = await job.train("told", 5)
    await admin.delete(f"{job.pods_path}/{pods[1]['metadata']['name']}")

    async def all_failed() -> Json | None:
        status: Json = (await admin.get(f"{job.path}/told"))["status"]
        return status if condition(status, "Failed") else None

    assert (await eventually("job Failed", all_failed))["failedIndexes"] == "0-2"
    left = (await job.pods("told")).values()
    codes = [pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for pod in left]
    assert codes == [143, 143], "they agree to leave at one step"

    await job.create("silent", hosts, SANDBOX_STEPS=10**6)
    pods = await job.train("silent", 5)
    await nodes.kubelets[pods[2]["spec"]["nodeName"]].kill()
    last = {member: job.steps(pod)[-1] for member, pod in pods.items()}
    assert last[0] - 1 <= last[2] <= last[0]
    # The others hang, so that SIGTERM does nothing: they end with their grace.
    left_over = {member: pods[member]["metadata"]["name"] for member in (0, 1)}
    for name in left_over.values():
        await admin.patch(f"{job.pods_path}/{name}", {"metadata": {"finalizers": ["test.example/keep"]}})
        await admin.delete(f"{job.pods_path}/{name}", {"gracePeriodSeconds": 1})

    async def killed() -> list[int] | None:
        codes = []
        for name in left_over.values():
            [status] = (await admin.get(f"{job.pods_path}/{name}"))["status"]["containerStatuses"]
            codes.append(status["state"].get("terminated", {}).get("exitCode"))
        return codes if None not in codes else None

    codes = await eventually("SIGKILL", killed)
    assert codes[0] == 137
    assert codes[1] in {137, PEER_LOST}, "the first one's end may be noticed before its own grace is over"
    assert all(job.steps(pods[member])[-1] <= last[2] + 1 for member in left_over)
    for name in left_over.values():
        await admin.patch(f"{job.pods_path}/{name}", {"metadata": {"finalizers": None}})
