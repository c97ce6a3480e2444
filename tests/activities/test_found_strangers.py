"""Pods of other owners on a bought node, on a real API server: who is named, and who belongs there."""

import secrets
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.kubernetes.strangers import StrangerActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import FindStrangers, Strangers
from api import errors
from clients.kube import Kube, path
from tests.activities.world import World, run, training

GPU = "nvidia.com/gpu"
Json = dict[str, Any]


class Bought:
    """A node with two GPUs that was bought for the world's job, and what others put there."""

    def __init__(self, world: World, name: str) -> None:
        self.kube, self.world, self.name = world.kube, world, name
        self.namespace = world.job.namespace

    async def pod(self, name: str = "stranger", *, gpus: int = 0, phase: str = "", **metadata: Any) -> str:
        """Bind a pod to the node, and return its name with its namespace, as people read it."""
        resources = {"limits": {GPU: gpus}} if gpus else {}
        container = {"name": "c", "image": "busybox", "resources": resources}
        # Whoever may bind pods binds them as he likes: no taint keeps a pod away that names its node.
        spec = {"nodeName": self.name, "tolerations": [{"operator": "Exists"}], "containers": [container]}
        body = {"metadata": {"name": name, **metadata}, "spec": spec}
        await self.kube.create(path("v1", "pods", self.namespace), body)
        if phase:
            await self.kube.patch(path("v1", "pods", self.namespace, name, "status"), {"status": {"phase": phase}})
        return f"{self.namespace}/{name}"

    async def strangers(self, gpus: int = 1, template: Json | None = None) -> Strangers:
        """List the pods that keep the job's pod away, if it wants so many GPUs."""
        wanted = template or training(resources={"limits": {GPU: gpus}})
        activities = StrangerActivities(self.kube)
        return await run(
            activities.find_strangers, FindStrangers(job=self.world.job, job_template=wanted, node=self.name)
        )


@pytest.fixture
async def bought(world: World) -> Bought:
    return Bought(world, await new_node(world.kube, world.job.job_id))


async def new_node(kube: Kube, job_id: str) -> str:
    name = f"outlast-{job_id}-{secrets.token_hex(4)}"
    await kube.create(path("v1", "nodes"), {"metadata": {"name": name}})
    resources = {"cpu": "4", "memory": "16Gi", "pods": "10", GPU: "2"}
    await kube.patch(f"/api/v1/nodes/{name}/status", {"status": {"capacity": resources, "allocatable": resources}})
    return name


async def test_nobody_is_named_while_there_is_room(bought: Bought) -> None:
    await bought.pod(gpus=1)
    assert await bought.strangers(gpus=1) == Strangers(pods=[])


async def test_who_has_the_gpu_is_named(bought: Bought) -> None:
    taker = await bought.pod(gpus=2)
    await bought.pod("idle")
    assert await bought.strangers() == Strangers(pods=[taker], lacks="too few free GPUs")


async def test_of_several_that_are_too_many_together_all_are_named(bought: Bought) -> None:
    takers = [await bought.pod(f"stranger-{number}", gpus=1) for number in range(2)]
    assert (await bought.strangers(gpus=2)).pods == takers


async def test_a_training_too_large_for_the_machine_is_nobodys_fault(bought: Bought) -> None:
    await bought.pod(gpus=2)
    assert await bought.strangers(gpus=4) == Strangers(pods=[])


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_pods_that_have_ended_have_nothing(bought: Bought, phase: str) -> None:
    await bought.pod(gpus=2, phase=phase)
    assert (await bought.strangers()).pods == []


async def test_pods_of_daemonsets_and_of_the_job_belong_there(bought: Bought) -> None:
    daemon = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "plugin", "uid": secrets.token_hex(4)}
    await bought.pod("daemon", gpus=1, ownerReferences=[daemon | {"controller": True}])
    await bought.pod("ours", gpus=1, labels={"training.dcnlab.com/job": bought.world.job.job_id})
    assert (await bought.strangers()).pods == []


async def test_a_node_that_is_gone_has_no_strangers(bought: Bought) -> None:
    await bought.kube.delete(f"/api/v1/nodes/{bought.name}")
    assert (await bought.strangers()).pods == []


async def test_what_the_scheduler_cannot_see_is_refused_by_name(bought: Bought) -> None:
    """A CDI device is no resource, so the scheduler would put both pods on one GPU."""
    template = training()
    template["spec"]["template"]["metadata"] = {"annotations": {"container.devices.cdi.k8s.io/trainer": f"{GPU}=0"}}
    taker = await bought.pod(gpus=2)
    replicas = ReplicaActivities(bought.kube, bought.namespace)
    request = bought.world.create_replica(bought.name, job_template=template, bought=True)
    with pytest.raises(ApplicationError, match=f"{taker} on {bought.name}: too few free GPUs") as refused:
        await run(replicas.create_replica, request)
    assert refused.value.type == errors.ROOM_TAKEN
    await bought.kube.delete(path("v1", "pods", bought.namespace, "stranger"), grace=0)
    assert (await run(replicas.create_replica, request)).job_exists
