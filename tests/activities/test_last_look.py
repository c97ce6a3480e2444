"""``status.lastReconcileTime`` on a real API server is written from time to time, beside the rest of the status."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.kubernetes.status import StatusActivities
from activities.signatures import Report
from api.spot_instance_job import SpotInstanceJobStatus
from api.timings import Timings
from clients.kube import Kube, KubeError
from tests.activities.world import LENT, World, run

RESYNC = 300


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings(resync=RESYNC), grants=LENT)


async def job(world: World) -> dict[str, Any]:
    return await world.kube.get(world.job_path)


async def looked(world: World) -> datetime:
    return datetime.fromisoformat((await job(world))["status"]["lastReconcileTime"])


async def pretend(world: World, seconds: float) -> None:
    """Let the recorded check be so long ago."""
    then = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await world.kube.patch(f"{world.job_path}/status", {"status": {"lastReconcileTime": then}})


async def test_the_first_look_is_written_down(world: World, specs: SpecActivities) -> None:
    await run(specs.load_job, world.job)
    assert timedelta(0) <= datetime.now(UTC) - await looked(world) < timedelta(seconds=10)


async def test_the_next_looks_cost_no_write(world: World, specs: SpecActivities) -> None:
    await run(specs.load_job, world.job)
    before = (await job(world))["metadata"]["resourceVersion"]
    for _ in range(3):
        await run(specs.load_job, world.job)
    assert (await job(world))["metadata"]["resourceVersion"] == before


@pytest.mark.parametrize(("ago", "fresh"), [(RESYNC / 4, False), (RESYNC, True)])
async def test_one_of_some_looks_is_written_down(world: World, specs: SpecActivities, ago: float, fresh: bool) -> None:
    await pretend(world, ago)
    await run(specs.load_job, world.job)
    assert (datetime.now(UTC) - await looked(world) < timedelta(seconds=10)) == fresh


async def test_it_stands_beside_the_rest_of_the_status(world: World, specs: SpecActivities) -> None:
    status = StatusActivities(world.kube)
    await run(status.report, Report(job=world.job, status=SpotInstanceJobStatus(replicas=1, workflow_id="w")))
    await run(specs.load_job, world.job)
    at = await looked(world)
    await run(status.report, Report(job=world.job, status=SpotInstanceJobStatus(replicas=2)))
    told = (await job(world))["status"]
    assert (told["replicas"], "workflowID" in told) == (2, False)
    assert await looked(world) == at
    assert (await job(world))["metadata"]["generation"] == 1  # no edit


async def test_a_job_that_is_being_deleted_is_left_as_it_is(world: World, specs: SpecActivities) -> None:
    await world.kube.patch(world.job_path, {"metadata": {"finalizers": ["example.com/held"]}})
    await world.kube.delete(world.job_path)
    assert (await run(specs.load_job, world.job)).deleting
    assert "lastReconcileTime" not in (await job(world)).get("status", {})


@pytest.mark.parametrize("status", [403, 409, 422])
async def test_a_look_that_cannot_be_written_down_counts_all_the_same(
    world: World, specs: SpecActivities, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def refuse(*_: Any) -> None:
        raise KubeError(status, {"message": "no"})

    monkeypatch.setattr(world.kube, "apply", refuse)
    assert (await run(specs.load_job, world.job)).exists
