"""What a job costs the API server: the same requests and as many bytes, however many nodes and other jobs there are."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from activities.checkpoints.activities import CheckpointActivities
from activities.kubernetes import ownership
from activities.kubernetes.budgets import BudgetActivities
from activities.kubernetes.nodes import NodeActivities
from activities.placement.activities import CapacityActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import CheckpointRef, NodeRef, SetBudget
from api import names
from clients.kube import Json, Kube
from sandbox.registry import Registry
from tests.activities.test_checkpoints import asked
from tests.activities.test_memory import Reader, config, gpu_node, kept, played_nodes, pod_on, status_of, wants
from tests.activities.world import World, eventually, run

__all__ = ["config", "played_nodes"]  # fixtures

FEW, TEN_TIMES = 3, 30


async def others(world: World, count: int, registry: Registry) -> None:
    """Other jobs of the namespace, each with a node, a replica that runs, a budget and a checkpoint that was made."""

    async def other(number: int) -> None:
        job_id = f"{number:08x}"
        marks = {"labels": ownership.labels(job_id, 0, 1)}
        node = await gpu_node(world.kube)
        pod = await pod_on(world, node, f"other-{job_id}-r0-i1", **marks["labels"])
        await status_of(world, pod, phase="Running")
        selects = {"minAvailable": 1, "selector": {"matchLabels": {names.LABEL_JOB: job_id}}}
        budget: Json = {"metadata": {"name": f"other-{job_id}", **marks}, "spec": selects}
        await world.kube.create(world.path("policy/v1", "poddisruptionbudgets"), budget)
        about = {"apiVersion": "migration.dcnlab.com/v1", "kind": "CheckpointBackup"}
        spec = {"schedule": "immediately", "podRef": {"name": pod, "namespace": world.job.namespace}}
        spec |= {
            "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "x", "namespace": world.job.namespace}
        }
        spec |= {
            "registry": {"url": registry.address, "repository": "x"},
            "containers": [{"name": "t", "image": "x:y"}],
        }
        backup = about | {"metadata": {"name": f"other-{job_id}-c1", **marks}, "spec": spec}
        await world.kube.create(world.path("migration.dcnlab.com/v1", "checkpointbackups"), backup)

    for begin in range(0, count, 10):
        await asyncio.gather(*map(other, range(begin, min(count, begin + 10))))


class Counting(Reader):
    """A client that adds up the bytes of the answers, too."""

    def __init__(self, kube: Kube) -> None:
        super().__init__(kube)
        self.bytes = 0

    async def _read(self, method: str, where: str, query: Any, *more: Any) -> bytes:
        answer = await super()._read(method, where, query, *more)
        self.bytes += len(answer)
        return answer


async def story(world: World, config: Any) -> tuple[Counter[str], int]:
    """A replica looks for a place, starts, is looked at and checkpointed; what this costs."""
    node = await gpu_node(world.kube)
    async with kept(world.kube) as (memory, _):
        api = Counting(world.kube)
        replicas, budgets = ReplicaActivities(api, world.job.namespace), BudgetActivities(api)
        checkpoints = CheckpointActivities(api, memory.running, memory.hosts, memory.under_way)
        assert (await run(CapacityActivities(memory.hosts, memory.placed).find_capacity, wants(world, node))).nodes
        await run(replicas.create_replica, world.create_replica(node))
        pod = await pod_on(world, node, "resnet-0a1b2c3d-r0-i1", **ownership.labels(world.job.job_id, 0, 1))
        await status_of(world, pod, phase="Running")

        async def known() -> bool:
            return any(each.pod["metadata"]["name"] == pod for each in memory.running.known.items.values())

        await eventually("the replica is known", known)
        await run(replicas.observe_replica, world.replica())
        await run(NodeActivities(api, memory.daemons).observe_node, NodeRef(name=node))
        await run(budgets.set_budget, SetBudget(job=world.job, exists=True))
        await run(checkpoints.create_checkpoint, asked(world, config))
        await run(checkpoints.observe_checkpoint, CheckpointRef(job=world.job, number=1))
    return Counter(api.calls), api.bytes


@pytest.mark.timeout(600)
async def test_a_job_costs_the_same_in_a_cluster_ten_times_as_large(
    world: World, config: Any, registry: Registry, kube: Kube, namespace: str
) -> None:
    await others(world, FEW, registry)
    few, few_bytes = await story(world, config)
    where = await kube.create("/api/v1/namespaces", {"metadata": {"generateName": "ten-times-"}})
    larger = await World.create(kube, where["metadata"]["name"])
    await others(larger, TEN_TIMES, registry)
    many, many_bytes = await story(larger, config)
    assert many == few
    assert many_bytes < 1.5 * few_bytes, "the answers grow, too"
