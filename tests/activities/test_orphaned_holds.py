"""Finalizers on what jobs held that are gone, on a real API server and a real Temporal service."""

import pytest

from activities.orphans.holds import OrphanedHoldActivities
from activities.signatures import JobRef, ReleaseFinalizers
from activities.specs import SpecActivities
from api import names
from api.timings import Timings
from tests.activities.fleet_setting import Fleet, fleet
from tests.activities.world import LENT, eventually, run

__all__ = ["fleet"]


class Holding:
    """A job that holds its SpotInstanceVM and a Secret."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.activities = OrphanedHoldActivities(fleet.temporal, fleet.kube)
        self.specs = SpecActivities(fleet.kube, Timings(), grants=LENT)
        self.secret = fleet.world.path("v1", "secrets", "registry")

    async def load(self) -> None:
        await self.fleet.world.secret("registry", username="a", password="b")
        reference = {"checkpointConfig": {"checkpointRepoCredentialRef": {"name": "registry"}}}
        await self.fleet.kube.patch(self.fleet.world.job_path, {"spec": reference})
        await run(self.specs.load_job, self.fleet.job)

    async def found(self) -> list[JobRef]:
        held = await run(self.activities.find_orphaned_holds, self.fleet.request())
        assert held.seen >= 1
        return [job for job in held.jobs if job.job_id == self.fleet.job.job_id]

    async def exist(self) -> list[bool]:
        """The SpotInstanceVM, and the Secret."""
        return [await self.fleet.kube.find(where) is not None for where in (self.fleet.world.vm_path, self.secret)]


@pytest.fixture
async def holding(fleet: Fleet) -> Holding:
    made = Holding(fleet)
    await made.load()
    return made


async def test_what_a_job_that_is_gone_holds_is_let_go(holding: Holding) -> None:
    """Its workflow was terminated, its finalizer taken off by force, its namespace deleted."""
    fleet = holding.fleet
    await fleet.forget_objects()
    await fleet.kube.delete(holding.secret)
    assert await holding.exist() == [True, True]  # held
    (job,) = await holding.found()
    for _ in range(2):
        await run(holding.specs.release_finalizers, ReleaseFinalizers(job=job))
    assert await holding.exist() == [False, False]


async def test_what_is_let_go_and_not_deleted_bears_no_trace(holding: Holding) -> None:
    await holding.fleet.kube.delete(holding.fleet.world.job_path)
    (job,) = await holding.found()
    await run(holding.specs.release_finalizers, ReleaseFinalizers(job=job))
    left = (await holding.fleet.kube.get(holding.secret))["metadata"]
    assert {"finalizers", "labels", "annotations"}.isdisjoint(left)


async def test_what_a_job_that_lives_holds_is_its_own(holding: Holding) -> None:
    assert await holding.found() == []


async def test_what_a_job_that_tears_down_holds_is_its_own(holding: Holding) -> None:
    await holding.fleet.open_job()
    await holding.fleet.forget_objects()
    assert await holding.found() == []
    await holding.fleet.end_job()
    assert len(await holding.found()) == 1


async def test_a_vm_that_is_torn_down_needs_the_credentials(holding: Holding) -> None:
    fleet = holding.fleet
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.forget_objects()

    async def kept() -> bool:  # lists of workflows come late
        return await holding.found() == []

    await eventually("the open VM is seen", kept)
    await fleet.end_vm()

    async def orphaned() -> bool:
        return len(await holding.found()) == 1

    await eventually("the end of the VM is seen", orphaned)


async def test_what_another_job_holds_too_stays_with_it(holding: Holding) -> None:
    fleet = holding.fleet
    other = fleet.job.model_copy(update={"job_id": "ffffffff", "name": "other"})
    body = {"metadata": {"labels": {names.job_finalizer("ffffffff"): ""}}}
    held = (await fleet.kube.get(holding.secret))["metadata"]
    body["metadata"]["finalizers"] = [*held["finalizers"], names.job_finalizer("ffffffff")]  # type: ignore[assignment]
    await fleet.kube.patch(holding.secret, body)
    await run(holding.specs.release_finalizers, ReleaseFinalizers(job=fleet.job))
    left = (await fleet.kube.get(holding.secret))["metadata"]
    assert left["finalizers"] == [names.job_finalizer("ffffffff")]
    assert names.LABEL_HELD in left["labels"]
    await run(holding.specs.release_finalizers, ReleaseFinalizers(job=other))
