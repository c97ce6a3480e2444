"""What a worker remembers of the cluster, on a real API server and with the worker's rights."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.checkpoints.activities import CheckpointActivities
from activities.checkpoints.memory import API_VERSION
from activities.kubernetes import ownership
from activities.kubernetes.daemons import AGENT, USUAL, VALIDATOR, DaemonNamespaces
from activities.placement.activities import CapacityActivities
from activities.signatures import FindCapacity
from api import errors, names
from api.spot_instance_job import CheckpointConfig
from clients.kube import Json, Kube, KubeError, path
from sandbox.registry import Registry
from tests.activities.rights import acting, rights
from tests.activities.test_checkpoints import asked
from tests.activities.world import World, eventually, run, training
from worker.memory import Memory

GPU = "nvidia.com/gpu"
READY = [{"type": "Ready", "status": "True"}]


class Reader(Kube):
    """A client that counts what is asked through it, but for watches."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.calls: list[str] = []

    async def _read(self, method: str, where: str, query: Any, *more: Any) -> bytes:
        right = next(rights(method, where, ""))
        self.calls.append(f"{right.verb} {right.resource}")
        return await self._kube._read(method, where, query, *more)

    async def _request(self, method: str, where: str, query: Any, timeout: Any, *more: Any) -> Any:
        return await self._kube._request(method, where, query, timeout, *more)


@asynccontextmanager
async def kept(kube: Kube, daemons: DaemonNamespaces = USUAL) -> AsyncIterator[tuple[Memory, Reader]]:
    """A memory that is current, and the client by which it reads."""
    reader = Reader(kube)
    memory = Memory(reader, daemons=daemons)
    with acting():
        running = memory.kept()
        await running.__aenter__()
    try:

        async def current() -> bool:
            return not memory.notes

        await eventually("the memory is current", current)
        reader.calls.clear()
        yield memory, reader
    finally:
        await running.__aexit__(None, None, None)


async def gpu_node(kube: Kube, gpus: int = 1) -> str:
    name = f"gpu-{secrets.token_hex(4)}"
    await kube.create(path("v1", "nodes"), {"metadata": {"name": name, "labels": {"pool": name}}})
    amounts = {"cpu": "8", "memory": "64Gi", "pods": "110", GPU: str(gpus)}
    status = {"allocatable": amounts, "capacity": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    await kube.patch(path("v1", "nodes", name=name, sub="status"), {"status": status})
    await kube.patch(path("v1", "nodes", name=name), {"spec": {"taints": None}})
    return name


async def pod_on(world: World, node: str, name: str = "pod", **labels: str) -> str:
    name = f"{name}-{secrets.token_hex(4)}"
    container = {"name": "trainer", "image": "x", "resources": {"limits": {GPU: "1"}}}
    spec: Json = {"containers": [container], "tolerations": [{"operator": "Exists"}]}
    spec |= {"nodeName": node} if node else {"schedulerName": "nobody"}
    await world.kube.create(world.path("v1", "pods"), {"metadata": {"name": name, "labels": labels}, "spec": spec})
    return name


async def status_of(world: World, pod: str, **status: Any) -> None:
    await world.kube.patch(path("v1", "pods", world.job.namespace, pod, "status"), {"status": status})


def wants(world: World, node: str) -> FindCapacity:
    template = training()
    spec = template["spec"]["template"]["spec"]
    spec["containers"][0]["resources"] = {"limits": {GPU: 1}}
    spec["nodeSelector"] = {"pool": node}
    return FindCapacity(job=world.job, job_template=template)


async def test_room_is_found_without_asking_the_api_server(world: World) -> None:
    node = await gpu_node(world.kube)
    waiting = await pod_on(world, "")
    async with kept(world.kube) as (memory, reader):
        activities = CapacityActivities(memory.hosts, memory.placed)

        async def free() -> bool:
            return (await run(activities.find_capacity, wants(world, node))).nodes == [node]

        async def taken() -> bool:
            return not await free()

        await eventually("the node is free", free)
        pod = await pod_on(world, node)
        await eventually("a pod that is bound takes the GPU", taken)
        await status_of(world, pod, phase="Succeeded")
        await eventually("a pod that has ended does not", free)
        await status_of(world, waiting, phase="Pending")
        assert await free(), "nor one that waits for the scheduler"
        assert reader.calls == []


async def test_memory_that_is_not_kept_decides_nothing(world: World) -> None:
    node = await gpu_node(world.kube)
    memory = Memory(world.kube)
    activities = CapacityActivities(memory.hosts, memory.placed)
    assert (await run(activities.find_capacity, wants(world, node))).nodes == [node]
    await pod_on(world, node)
    assert (await run(activities.find_capacity, wants(world, node))).nodes == []


async def test_readers_without_a_memory_share_a_list(world: World) -> None:
    reader = Reader(world.kube)
    memory = Memory(reader)
    with acting():
        await asyncio.gather(*(memory.hosts.read() for _ in range(50)))
    assert 1 <= len(reader.calls) <= 2 * await pages(world.kube), "the first one's, and one for all who came meanwhile"


async def pages(kube: Kube) -> int:
    return len([page async for page in kube.pages(path("v1", "nodes"))])


@pytest.fixture(autouse=True)
async def played_nodes(kube: Kube) -> AsyncIterator[None]:
    """Afterwards they are gone: another test's checkpoint operator would look for their kubelets."""
    yield
    async for node in kube.each(path("v1", "nodes"), labelSelector="pool"):
        await kube.delete(path("v1", "nodes", name=node["metadata"]["name"]))


@pytest.fixture
async def config(kube: Kube, crds: None, registry: Registry) -> AsyncIterator[CheckpointConfig]:
    """The configuration of checkpoints that nobody makes; afterwards they are gone.

    An agent of another test keeps the registry and the credentials of the first CheckpointBackup that it finds.
    """
    yield CheckpointConfig.model_validate({"checkpointImageRepo": f"{registry.address}/memory"})
    async for backup in kube.each(path(API_VERSION, names.CHECKPOINT_PLURAL)):
        where = path(API_VERSION, names.CHECKPOINT_PLURAL, backup["metadata"]["namespace"], backup["metadata"]["name"])
        await kube.delete(where)
        with contextlib.suppress(KubeError):  # it is gone
            await kube.patch(where, {"metadata": {"finalizers": None}})


@pytest.fixture
async def trained(world: World) -> str:
    """A node on which replica 0 of the job runs, in the words of a kubelet."""
    node = await gpu_node(world.kube)
    pod = await pod_on(world, node, "resnet-0a1b2c3d-r0-i1", **ownership.labels(world.job.job_id, 0, 1))
    await status_of(world, pod, phase="Running")
    return node


async def test_a_checkpoint_takes_one_request(world: World, trained: str, config: CheckpointConfig) -> None:
    async with kept(world.kube) as (memory, reader):
        activities = CheckpointActivities(reader, memory.running, memory.hosts, memory.under_way)
        made = await run(activities.create_checkpoint, asked(world, config))
        assert made.exists
        assert reader.calls == ["create checkpointbackups"]


async def test_a_second_checkpoint_on_a_node_is_refused(world: World, trained: str, config: CheckpointConfig) -> None:
    """Before the watch can have reported the first."""
    async with kept(world.kube) as (memory, reader):
        activities = CheckpointActivities(reader, memory.running, memory.hosts, memory.under_way)
        await run(activities.create_checkpoint, asked(world, config))
        with pytest.raises(ApplicationError, match="is under way") as refused:
            await run(activities.create_checkpoint, asked(world, config, number=2, unix=1_800_000))
        assert refused.value.type == errors.BUSY


async def test_what_was_written_and_deleted_is_forgotten(world: World, trained: str, config: CheckpointConfig) -> None:
    async with kept(world.kube) as (memory, reader):
        activities = CheckpointActivities(reader, memory.running, memory.hosts, memory.under_way)
        made = await run(activities.create_checkpoint, asked(world, config))
        where = path("migration.dcnlab.com/v1", "checkpointbackups", world.job.namespace, made.name)
        await world.kube.patch(where, {"metadata": {"finalizers": []}})
        await world.kube.delete(where)

        async def forgotten() -> bool:
            return not memory.under_way.known.of(trained)

        await eventually("it is forgotten", forgotten)


async def daemon_set(world: World, name: str, labels: dict[str, str], node: str) -> str:
    """Create a DaemonSet with a pod on this node, or with none if there is no such node.

    It has one more label, or it would adopt any pod with these.
    """
    labels = {**labels, "daemon": name}
    spec: Json = {"containers": [{"name": "daemon", "image": "x"}], "tolerations": [{"operator": "Exists"}]}
    spec["nodeSelector"] = {"pool": node}
    template = {"metadata": {"labels": labels}, "spec": spec}
    sets = world.path("apps/v1", "daemonsets")
    body = {"metadata": {"name": name, "labels": labels}}
    await world.kube.create(sets, {**body, "spec": {"selector": {"matchLabels": labels}, "template": template}})
    return f"{sets}/{name}"


async def bound_pod(world: World, name: str) -> str:
    """Wait until the pod of this DaemonSet is on its node, and return its name."""

    async def names_of_bound() -> list[str]:
        pods = await world.kube.list(world.path("v1", "pods"))
        bound = [pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName")]
        return [each for each in bound if each.startswith(f"{name}-")]

    async def is_bound() -> bool:
        return bool(await names_of_bound())

    await eventually(f"a pod of {name} is on its node", is_bound)
    return (await names_of_bound())[0]


async def test_the_node_agent_and_its_daemonset_are_known(world: World) -> None:
    node = await gpu_node(world.kube)
    async with kept(world.kube, DaemonNamespaces(agent=world.job.namespace)) as (memory, reader):
        assert (await memory.daemons.agent(node)).reason == "NotInstalled"
        made = await daemon_set(world, "agent", AGENT, "nowhere")

        async def says(reason: str) -> bool:
            return (await memory.daemons.agent(node)).reason == reason

        await eventually("it is installed", lambda: says("NoPod"))
        await pod_on(world, node, **AGENT)
        assert await says("NoPod"), "a pod that no DaemonSet made"
        await world.kube.patch(made, {"spec": {"template": {"spec": {"nodeSelector": {"pool": node}}}}})
        await eventually("its pod waits", lambda: says("Pending"))
        assert not await memory.daemons.gpu_operator()
        await world.kube.delete(made, propagation="Background")
        assert reader.calls == []


async def test_a_validator_counts_only_if_the_operator_made_it(world: World) -> None:
    node = await gpu_node(world.kube)
    labels = {"app": VALIDATOR}
    async with kept(world.kube, DaemonNamespaces(gpu_operator=world.job.namespace)) as (memory, reader):
        made = await daemon_set(world, VALIDATOR, labels, "nowhere")
        await eventually("the operator is known", memory.daemons.gpu_operator)
        forged = await pod_on(world, node, **labels)
        await status_of(world, forged, phase="Running", conditions=READY)
        await world.kube.patch(made, {"spec": {"template": {"spec": {"nodeSelector": {"pool": node}}}}})
        real = await bound_pod(world, VALIDATOR)
        assert not await memory.daemons.validated(node)
        await status_of(world, real, phase="Running", conditions=READY)
        await eventually("the node is validated", lambda: memory.daemons.validated(node))
        await world.kube.delete(made, propagation="Background")
        assert reader.calls == []


async def test_a_tenant_can_play_neither_the_gpu_operator_nor_the_node_agent(world: World) -> None:
    """Try it with labels, names and a DaemonSet in the tenant's own namespace."""
    node = await gpu_node(world.kube)
    async with kept(world.kube) as (memory, reader):
        for name, labels in ((VALIDATOR, {"app": VALIDATOR}), ("outlast-agent", AGENT)):
            await daemon_set(world, name, labels, node)
            for pod in (await pod_on(world, node, **labels), await bound_pod(world, name)):
                await status_of(world, pod, phase="Running", conditions=READY)
        heard = secrets.token_hex(4)  # by the memory's other watches: what came before it has come, too
        await pod_on(world, node, heard)

        async def is_heard() -> bool:
            return any(heard in key for key in memory.placed.known.items)

        await eventually("the last pod is known", is_heard)
        assert not await memory.daemons.gpu_operator()
        assert not await memory.daemons.validated(node)
        assert (await memory.daemons.agent(node)).reason == "NotInstalled"
        assert reader.calls == []


async def test_a_checkpoint_that_has_just_ended_is_not_in_the_way(
    world: World, trained: str, config: CheckpointConfig
) -> None:
    """Memory may not have heard of its end, and a wrong no would cost a notice its checkpoint."""
    async with kept(world.kube) as (memory, reader):
        activities = CheckpointActivities(reader, memory.running, memory.hosts, memory.under_way)
        made = await run(activities.create_checkpoint, asked(world, config))
        where = path("migration.dcnlab.com/v1", "checkpointbackups", world.job.namespace, made.name)
        old = next(iter(memory.under_way.known.of(trained).values()))
        await world.kube.patch(f"{where}/status", {"status": {"phase": "Completed"}})

        async def ended() -> bool:
            return not memory.under_way.known.of(trained)

        await eventually("memory has heard of its end", ended)
        memory.under_way.known.put("late", old)
        assert (await run(activities.create_checkpoint, asked(world, config, number=2, unix=1_800_000))).exists
