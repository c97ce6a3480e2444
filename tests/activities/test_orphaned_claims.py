"""Claims on CDI devices that nobody has any more are found, on a real API server."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from activities.orphans.claims import OrphanedClaimActivities
from activities.placement.claims import LEASES, Claims
from activities.signatures import CreateReplica, OrphanedClaim
from api import names
from clients.kube import path
from tests.activities.fleet_setting import Fleet, fleet
from tests.activities.world import run, training

__all__ = ["fleet"]

DEVICE = "container.devices.cdi.k8s.io/trainer"


class Claimed:
    """A device that the fleet's job claimed an hour ago."""

    def __init__(self, fleet: Fleet, node: str) -> None:
        self.fleet, self.node = fleet, node
        self.namespace = fleet.job.namespace
        self.leases = path(LEASES, "leases", self.namespace)
        self.activities = OrphanedClaimActivities(fleet.temporal, fleet.kube, self.namespace)

    async def take(self, replica: int = 0) -> None:
        """Claim the replica's device, as its creation does."""
        template = training()
        template["spec"]["template"]["metadata"] = {"annotations": {DEVICE: f"nvidia.com/gpu={replica}"}}
        request = CreateReplica(
            job=self.fleet.job, job_template=template, replica=replica, incarnation=1, nodes=[self.node], bought=False
        )
        await Claims(self.fleet.kube, self.namespace).pin(request)
        past = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        name = names.claim_name(self.node, str(replica))
        await self.fleet.kube.patch(f"{self.leases}/{name}", {"spec": {"renewTime": past}})

    async def train(self) -> None:
        """Create the Job of the claim's replica."""
        job = self.fleet.job
        name = names.replica_job_name(job.name, job.job_id, 0, 1)
        body = {"metadata": {"name": name}, "spec": {"suspend": True, **training()["spec"]}}
        body["spec"]["template"]["spec"]["restartPolicy"] = "Never"
        await self.fleet.kube.create(path("batch/v1", "jobs", job.namespace), body)

    async def found(self, grace: float = 600) -> list[OrphanedClaim]:
        return (await run(self.activities.find_orphaned_claims, self.fleet.request(grace))).claims

    async def left(self) -> list[str]:
        return [lease["metadata"]["name"] for lease in await self.fleet.kube.list(self.leases)]


@pytest.fixture
async def claimed(fleet: Fleet) -> AsyncIterator[Claimed]:
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "2"}
    node = f"cdi-{secrets.token_hex(4)}"
    await fleet.kube.create(path("v1", "nodes"), {"metadata": {"name": node, "labels": labels}})
    made = Claimed(fleet, node)
    await made.take()
    yield made
    await fleet.kube.delete(path("v1", "nodes", name=node))


async def test_the_claim_of_a_job_that_is_gone_is_removed(claimed: Claimed) -> None:
    await claimed.fleet.forget_objects()
    (orphan,) = await claimed.found()
    assert [orphan.name] == await claimed.left()
    for _ in range(2):  # a retry finds nothing
        await run(claimed.activities.remove_claim, orphan)
    assert await claimed.left() == []


async def test_the_claim_of_a_job_that_is_over_is_an_orphan(claimed: Claimed) -> None:
    await claimed.fleet.open_job()
    await claimed.fleet.finish_job()
    assert await claimed.found() == []  # it tears down
    await claimed.fleet.end_job()
    assert len(await claimed.found()) == 1


async def test_the_claim_of_a_job_that_lives_is_its_own(claimed: Claimed) -> None:
    found = await run(claimed.activities.find_orphaned_claims, claimed.fleet.request())
    assert (found.claims, found.seen) == ([], 1)


async def test_the_claim_of_a_job_that_tears_down_is_its_own(claimed: Claimed) -> None:
    await claimed.fleet.open_job()
    await claimed.fleet.forget_objects()
    assert await claimed.found() == []
    await claimed.fleet.end_job()
    assert len(await claimed.found()) == 1


async def test_a_claim_whose_training_still_runs_holds(claimed: Claimed) -> None:
    """Its job was deleted without what it had made (`--cascade=orphan`), so the device is in use."""
    await claimed.fleet.forget_objects()
    await claimed.train()
    assert await claimed.found() == []


async def test_a_young_claim_is_left_alone(claimed: Claimed) -> None:
    await claimed.fleet.forget_objects()
    assert await claimed.found(grace=7200) == []


async def test_a_claim_that_was_taken_over_meanwhile_is_left_alone(claimed: Claimed) -> None:
    fleet = claimed.fleet
    await fleet.forget_objects()
    (orphan,) = await claimed.found()
    fleet.job = fleet.job.model_copy(update={"job_id": "ffffffff"})
    await claimed.take()
    await run(claimed.activities.remove_claim, orphan)
    assert await claimed.left() == [orphan.name]


async def test_a_lease_that_is_not_a_claim_is_not_ours(claimed: Claimed) -> None:
    await claimed.fleet.kube.create(claimed.leases, {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "x"}})
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    await claimed.fleet.kube.create(claimed.leases, {"metadata": {"name": "other", "labels": labels}, "spec": {}})
    assert (await run(claimed.activities.find_orphaned_claims, claimed.fleet.request())).seen == 1
