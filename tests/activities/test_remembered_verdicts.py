"""A job that is read again asks the API server only what may have changed: counted on a real one."""

from collections import Counter
from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.signatures import JobDocument
from api import names
from api.timings import Timings
from clients.kube import Kube
from tests.activities.world import LENT, World, run

LASTS = 3600
Asked = Counter[tuple[str, str]]


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings(recheck=LASTS), grants=LENT)


async def load(world: World, specs: SpecActivities) -> JobDocument:
    document: JobDocument = await run(specs.load_job, world.job)
    return document


async def accept(world: World, status: str = "True") -> None:
    """The workflow has written whether it accepts the job."""
    condition = {"type": "Accepted", "status": status, "reason": "SpecIsValid", "message": ""}
    at = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    await world.kube.patch(f"{world.job_path}/status", {"status": {"conditions": [condition | at]}})


def dry_runs(asked: Asked) -> int:
    return sum(count for (method, path), count in asked.items() if method == "POST" and path.endswith("/pods"))


async def test_an_accepted_job_is_judged_once(world: World, specs: SpecActivities, asked: Asked) -> None:
    first = await load(world, specs)
    await accept(world)
    asked.clear()
    assert await load(world, specs) == first
    assert asked == {("GET", world.job_path): 1, ("GET", world.vm_path): 1, ("GET", _join_secret(world)): 1}


def _join_secret(world: World) -> str:
    return world.path("v1", "secrets", names.JOIN_SECRET)


@pytest.mark.parametrize("status", ["False", None])
async def test_a_job_that_is_not_accepted_is_judged_each_time(
    world: World, specs: SpecActivities, asked: Asked, status: str | None
) -> None:
    for _ in range(3):
        if status:
            await accept(world, status)
        await load(world, specs)
    assert dry_runs(asked) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}},
        {"spec": {"replicas": 3}},
        {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"priorityClassName": "nobody-has-it"}}}}}},
    ],
    ids=["label", "replicas", "template"],
)
async def test_what_is_edited_is_judged_again(
    world: World, specs: SpecActivities, asked: Asked, change: dict[str, Any]
) -> None:
    await load(world, specs)
    await accept(world)
    await world.kube.patch(world.job_path, change)
    document = await load(world, specs)
    assert dry_runs(asked) == 2
    assert [problem.reason for problem in document.problems] == (["PodRefused"] if "priority" in str(change) else [])


async def test_an_objection_is_looked_at_again(world: World, asked: Asked) -> None:
    """For some seconds it is repeated, then somebody may have corrected what is wrong."""
    specs = SpecActivities(world.kube, Timings(recheck=0), grants=LENT)
    await load(world, specs)
    await accept(world)
    await load(world, specs)
    assert dry_runs(asked) == 2


async def test_a_namespace_without_quotas_costs_no_list_of_pods(
    world: World, specs: SpecActivities, asked: Asked
) -> None:
    await load(world, specs)
    assert asked["GET", world.path("v1", "resourcequotas")] == 1
    assert asked["GET", world.path("v1", "pods")] == 0
