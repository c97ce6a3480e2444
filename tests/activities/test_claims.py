"""CDI devices, which the scheduler does not see: two jobs race for one, on a real API server."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.placement import claims
from activities.replicas.activities import ReplicaActivities
from activities.signatures import CreateReplica
from api import errors
from clients.kube import Kube, path
from tests.activities.world import World, eventually, run, training

DEVICE = "container.devices.cdi.k8s.io/trainer"


class Racing:
    """A node with two GPUs, and jobs that want some of them."""

    def __init__(self, world: World, node: str) -> None:
        self.kube, self.namespace, self.node = world.kube, world.job.namespace, node
        self.owner = world.job  # one for all: a Job without an existing owner is soon garbage
        self.replicas = ReplicaActivities(world.kube, world.job.namespace)

    def request(
        self, job: str, devices: str = "nvidia.com/gpu=0", *, incarnation: int = 1, **more: Any
    ) -> CreateReplica:
        """Make the request to run on one of the nodes, with these CDI devices; `job` is its id."""
        template = training()
        template["spec"]["template"]["metadata"] = {"annotations": {DEVICE: devices}}
        ref = self.owner.model_copy(update={"job_id": job})
        given = {"nodes": [self.node], "bought": False, "replica": 0, **more}
        return CreateReplica(job=ref, job_template=template, incarnation=incarnation, **given)

    async def create(self, request: CreateReplica) -> str | None:
        """Create the Job, and return the node that it was pinned to; None if another has the device."""
        try:
            view = await run(self.replicas.create_replica, request)
        except ApplicationError as error:
            if error.type != errors.BUSY:
                raise
            return None
        job = await self.kube.get(path("batch/v1", "jobs", self.namespace, view.job_name))
        affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        (node,) = term["matchExpressions"][0]["values"]
        return str(node)

    async def age_claims(self) -> None:
        """Let all claims be an hour old."""
        leases = path(claims.LEASES, "leases", self.namespace)
        for lease in await self.kube.list(leases):
            past = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            await self.kube.patch(f"{leases}/{lease['metadata']['name']}", {"spec": {"renewTime": past}})

    async def ends(self, request: CreateReplica) -> None:
        """Remove its Job."""
        name = f"{request.job.name}-{request.job.job_id}-r{request.replica}-i{request.incarnation}"
        await self.kube.delete(path("batch/v1", "jobs", self.namespace, name), propagation="Background")


@pytest.fixture
async def racing(world: World) -> Racing:
    return Racing(world, await new_node(world.kube))


async def new_node(kube: Kube) -> str:
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "2"}
    made = await kube.create(
        path("v1", "nodes"), {"metadata": {"name": f"cdi-{secrets.token_hex(4)}", "labels": labels}}
    )
    return str(made["metadata"]["name"])


async def test_of_jobs_that_race_for_a_device_one_gets_it(racing: Racing) -> None:
    requests = [racing.request(f"0000000{number}") for number in range(6)]
    found = await asyncio.gather(*map(racing.create, requests))
    assert (found.count(racing.node), found.count(None)) == (1, 5)
    jobs = await racing.kube.list(path("batch/v1", "jobs", racing.namespace))
    assert len(jobs) == 1


async def test_each_of_two_nodes_goes_to_one_of_two_jobs(racing: Racing, kube: Kube) -> None:
    nodes = [racing.node, await new_node(kube)]
    found = await asyncio.gather(*(racing.create(racing.request(f"0000000{job}", nodes=nodes)) for job in range(2)))
    assert sorted(map(str, found)) == sorted(nodes)


async def test_other_devices_of_the_node_are_free(racing: Racing) -> None:
    one, other = racing.request("0000000a"), racing.request("0000000b", "nvidia.com/gpu=1")
    assert await racing.create(one) == await racing.create(other) == racing.node


@pytest.mark.parametrize(("first", "second"), [("all", "1"), ("1", "all"), ("all", "all")])
async def test_all_devices_are_each_of_them(racing: Racing, first: str, second: str) -> None:
    assert await racing.create(racing.request("0000000a", f"nvidia.com/gpu={first}")) == racing.node
    assert await racing.create(racing.request("0000000b", f"nvidia.com/gpu={second}")) is None


async def test_a_retry_and_the_next_incarnation_have_what_the_replica_had(racing: Racing) -> None:
    first = racing.request("0000000a")
    assert await racing.create(first) == await racing.create(first) == racing.node
    assert await racing.create(racing.request("0000000a", incarnation=2)) == racing.node
    await racing.ends(first)
    assert await racing.create(racing.request("0000000b")) is None


async def test_a_claim_lapses_with_its_job(racing: Racing) -> None:
    first, second = racing.request("0000000a"), racing.request("0000000b")
    assert await racing.create(first) == racing.node
    assert await racing.create(second) is None
    await racing.age_claims()
    assert await racing.create(second) is None  # whenever it was claimed
    await racing.ends(first)
    assert await eventually("the device is free", lambda: racing.create(second)) == racing.node
    assert await racing.create(first) is None


async def test_nothing_is_claimed_on_a_node_that_was_bought(racing: Racing) -> None:
    bought = [racing.request(job, bought=True) for job in ("0000000a", "0000000b")]
    assert [await racing.create(request) for request in bought] == [racing.node] * 2
    assert await racing.kube.list(path(claims.LEASES, "leases", racing.namespace)) == []


async def test_claims_go_with_their_node(racing: Racing) -> None:
    await racing.create(racing.request("0000000a"))
    leases = path(claims.LEASES, "leases", racing.namespace)
    assert len(await racing.kube.list(leases)) == 1
    await racing.kube.delete(path("v1", "nodes", name=racing.node))

    async def gone() -> bool:
        return not await racing.kube.list(leases)

    await eventually("claims of a node that is gone", gone, 120)


# --- gangs


async def pinned_to(racing: Racing, request: CreateReplica) -> set[str]:
    """Create the gang's Job, and return the nodes that it was pinned to."""
    view = await run(racing.replicas.create_replica, request)
    job = await racing.kube.get(path("batch/v1", "jobs", racing.namespace, view.job_name))
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return set(term["matchExpressions"][0]["values"])


async def test_a_gang_claims_the_devices_of_as_many_nodes_as_it_has_members(racing: Racing) -> None:
    nodes = [racing.node, await new_node(racing.kube), await new_node(racing.kube)]
    assert await racing.create(racing.request("00000001")) == racing.node
    gang = racing.request("00000002", nodes=nodes, members=2)
    assert await pinned_to(racing, gang) == set(nodes[1:])
    assert await pinned_to(racing, gang) == set(nodes[1:]), "a retry finds its own"


async def test_a_gang_that_finds_too_few_devices_is_not_created(racing: Racing) -> None:
    nodes = [racing.node, await new_node(racing.kube)]
    await racing.create(racing.request("00000001"))
    with pytest.raises(ApplicationError, match="another job was quicker") as caught:
        await pinned_to(racing, racing.request("00000002", nodes=nodes, members=2))
    assert caught.value.type == errors.BUSY
    assert len(await racing.kube.list(path("batch/v1", "jobs", racing.namespace))) == 1
