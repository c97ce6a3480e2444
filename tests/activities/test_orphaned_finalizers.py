"""The finalizers of jobs that are gone are found, on a real API server and a real Temporal service."""

import pytest

from activities.documents.activities import SpecActivities
from activities.orphans.finalizers import OrphanedFinalizerActivities
from activities.signatures import JobRef, ReleaseFinalizers
from api import names
from api.timings import Timings
from tests.activities.fleet_setting import Fleet, fleet
from tests.activities.world import LENT, eventually, run

__all__ = ["fleet"]


class Protecting:
    """A job that protects its SpotInstanceVM and a Secret."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.activities = OrphanedFinalizerActivities(fleet.temporal, fleet.kube)
        self.specs = SpecActivities(fleet.kube, Timings(), grants=LENT)
        self.secret = fleet.world.path("v1", "secrets", "registry")

    async def load(self) -> None:
        await self.fleet.world.secret("registry", username="a", password="b")
        reference = {"checkpointConfig": {"checkpointRepoCredentialRef": {"name": "registry"}}}
        await self.fleet.kube.patch(self.fleet.world.job_path, {"spec": reference})
        await run(self.specs.load_job, self.fleet.job)

    async def found(self) -> list[JobRef]:
        orphaned = await run(self.activities.find_orphaned_finalizers, self.fleet.request())
        assert orphaned.seen >= 1
        return [job for job in orphaned.jobs if job.job_id == self.fleet.job.job_id]

    async def exist(self) -> list[bool]:
        """Say whether the SpotInstanceVM and the Secret exist."""
        return [await self.fleet.kube.find(where) is not None for where in (self.fleet.world.vm_path, self.secret)]


@pytest.fixture
async def protecting(fleet: Fleet) -> Protecting:
    made = Protecting(fleet)
    await made.load()
    return made


async def test_finalizers_of_a_job_that_is_gone_are_removed(protecting: Protecting) -> None:
    """Its workflow was terminated, its finalizer removed by force, its namespace deleted."""
    fleet = protecting.fleet
    await fleet.forget_objects()
    await fleet.kube.delete(protecting.secret)
    assert await protecting.exist() == [True, True]  # protected
    (job,) = await protecting.found()
    for _ in range(2):
        await run(protecting.specs.release_finalizers, ReleaseFinalizers(job=job))
    assert await protecting.exist() == [False, False]


async def test_what_is_not_deleted_keeps_no_trace(protecting: Protecting) -> None:
    await protecting.fleet.kube.delete(protecting.fleet.world.job_path)
    (job,) = await protecting.found()
    await run(protecting.specs.release_finalizers, ReleaseFinalizers(job=job))
    left = (await protecting.fleet.kube.get(protecting.secret))["metadata"]
    assert {"finalizers", "labels", "annotations"}.isdisjoint(left)


async def test_the_finalizers_of_a_living_job_stay(protecting: Protecting) -> None:
    assert await protecting.found() == []


async def test_the_finalizers_of_a_job_that_tears_down_stay(protecting: Protecting) -> None:
    await protecting.fleet.open_job()
    await protecting.fleet.forget_objects()
    assert await protecting.found() == []
    await protecting.fleet.end_job()
    assert len(await protecting.found()) == 1


async def test_a_vm_that_is_torn_down_needs_the_credentials(protecting: Protecting) -> None:
    fleet = protecting.fleet
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.forget_objects()

    async def kept() -> bool:  # lists of workflows come late
        return await protecting.found() == []

    await eventually("the open VM is seen", kept)
    await fleet.end_vm()

    async def orphaned() -> bool:
        return len(await protecting.found()) == 1

    await eventually("the end of the VM is seen", orphaned)


async def test_the_finalizer_of_another_job_stays(protecting: Protecting) -> None:
    fleet = protecting.fleet
    other = fleet.job.model_copy(update={"job_id": "ffffffff", "name": "other"})
    body = {"metadata": {"labels": {names.job_finalizer("ffffffff"): ""}}}
    protected = (await fleet.kube.get(protecting.secret))["metadata"]
    body["metadata"]["finalizers"] = [*protected["finalizers"], names.job_finalizer("ffffffff")]  # type: ignore[assignment]
    await fleet.kube.patch(protecting.secret, body)
    await run(protecting.specs.release_finalizers, ReleaseFinalizers(job=fleet.job))
    left = (await fleet.kube.get(protecting.secret))["metadata"]
    assert left["finalizers"] == [names.job_finalizer("ffffffff")]
    assert names.LABEL_PROTECTED in left["labels"]
    await run(protecting.specs.release_finalizers, ReleaseFinalizers(job=other))
