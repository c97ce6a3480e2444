"""What workflows hear of gangs: the pods of all members in one message, by member."""

from typing import Any

from temporalio.client import Client

from api.messages import ReplicaChanged
from tests.bridge.recorder import eventually
from tests.bridge.test_objects import Cluster, checkpoint_crd, replicas, status, workflow, world

__all__ = ["checkpoint_crd", "workflow", "world"]

STARTED = "2026-01-01T00:00:00Z"
NAME = "train-0a1b2c3d-r1-i2"


async def start(world: Cluster, members: int) -> None:
    await world.node(node := f"{world.namespace}-node")
    pod = {
        "restartPolicy": "Never",
        "nodeName": node,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "train", "image": "busybox"}],
    }
    template = {"metadata": {key: world.meta[key] for key in ("labels", "annotations")}, "spec": pod}
    spec = {"completionMode": "Indexed", "completions": members, "parallelism": members, "backoffLimitPerIndex": 0}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME, **world.meta}}
    await world.create({**job, "spec": {**spec, "template": template}})


async def test_all_members_are_told_of_together_and_each_change_of_one(
    world: Cluster, workflow: str, bridge: Any, client: Client, namespace: str
) -> None:
    async def last() -> ReplicaChanged | None:
        told = await replicas(client, workflow)
        return told[-1] if told else None

    async with bridge():
        await start(world, 3)

        async def complete() -> Any:
            told = await last()
            return told.view.pods if told and len(told.view.pods) == 3 else None

        pods = await eventually(complete, "all members are told")
        assert list(pods) == [0, 1, 2]
        for member in (0, 2):
            running = {"phase": "Running", "containerStatuses": [status(running={"startedAt": STARTED})]}
            await world.patch("pod", pods[member].name, {"status": running})
        ended = {"exitCode": 3, "finishedAt": STARTED}
        await world.patch("pod", pods[1].name, {"status": {"phase": "Failed", "containerStatuses": [
            status(terminated=ended)
        ]}})  # fmt: skip

        async def changed() -> Any:
            told = await last()
            phases = {member: pod.phase for member, pod in told.view.pods.items()} if told else {}
            return phases == {0: "Running", 1: "Failed", 2: "Running"} and told

        told = await eventually(changed, "the changes of all members are told")
        assert told.view.pods[1].exit_code == 3
        await world.kubectl("delete", "job", NAME, "-n", namespace, "--wait=false")
        await world.kubectl("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force")

        async def gone() -> Any:
            told = await last()
            return told and not told.view.job_exists and not told.view.pods

        await eventually(gone, "that all are gone is told")
    everything = await replicas(client, workflow)
    assert len(everything) < 20, "the changes of several members at once are one message"
