"""Secrets of another namespace: the worker reads any, a job may name those that are shared with its namespace."""

import secrets
from collections.abc import AsyncIterator

import pytest

from activities.secret import Sharing
from activities.signatures import JobDocument
from activities.specs import SpecActivities
from api import names
from api.timings import Timings
from clients.kube import Kube, path
from tests.activities.world import World, run

CLOUD = {"credentials.json": "e30="}


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings())


@pytest.fixture
async def elsewhere(kube: Kube) -> AsyncIterator[str]:
    """Another namespace, with the Secret ``theirs``."""
    name = f"team-{secrets.token_hex(4)}"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    await kube.create(path("v1", "secrets", name), {"metadata": {"name": "theirs"}, "data": CLOUD})
    yield name
    where = path("v1", "secrets", name, "theirs")
    await kube.patch(where, {"metadata": {"finalizers": None}})
    await kube.delete(where)


async def share(kube: Kube, namespace: str, told: str) -> None:
    change = {"metadata": {"annotations": {names.ANNOTATION_SHARED: told}}}
    await kube.patch(path("v1", "secrets", namespace, "theirs"), change)


async def load(world: World, specs: SpecActivities, namespace: str | None, name: str = "theirs") -> JobDocument:
    reference = {"name": name, "namespace": namespace}
    await world.kube.patch(world.job_path, {"spec": {"gcpCredentialsSecretRef": reference}})
    document: JobDocument = await run(specs.load_job, world.job)
    return document


async def test_a_secret_of_another_namespace_is_refused_with_the_remedies(
    world: World, specs: SpecActivities, elsewhere: str
) -> None:
    (problem,) = (await load(world, specs, elsewhere)).problems
    assert (problem.type, problem.status, problem.reason) == ("Accepted", "False", "SecretNotShared")
    for part in (
        "gcpCredentialsSecretRef",
        f"{elsewhere}/theirs",
        f"{names.ANNOTATION_SHARED}={world.job.namespace}",
        "OUTLAST_SHARED_SECRET_NAMESPACES",
    ):
        assert part in problem.message


async def test_nothing_is_done_to_a_secret_that_is_refused(world: World, specs: SpecActivities, elsewhere: str) -> None:
    where = path("v1", "secrets", elsewhere, "theirs")
    before = await world.kube.get(where)
    await load(world, specs, elsewhere)
    assert await world.kube.get(where) == before


async def test_whether_it_is_there_is_not_told(world: World, specs: SpecActivities, elsewhere: str) -> None:
    there = (await load(world, specs, elsewhere)).problems
    absent = (await load(world, specs, elsewhere, "absent")).problems
    assert absent[0].message.replace("absent", "theirs") == there[0].message


@pytest.mark.parametrize("told", ["{mine}", "others, {mine}", "*"])
async def test_its_owner_shares_it_by_an_annotation(
    world: World, specs: SpecActivities, elsewhere: str, told: str
) -> None:
    await share(world.kube, elsewhere, told.format(mine=world.job.namespace))
    assert (await load(world, specs, elsewhere)).problems == []


@pytest.mark.parametrize("told", ["", "others", "{mine}-2", "te*"])
async def test_it_is_shared_with_nobody_else(world: World, specs: SpecActivities, elsewhere: str, told: str) -> None:
    await share(world.kube, elsewhere, told.format(mine=world.job.namespace))
    assert [problem.reason for problem in (await load(world, specs, elsewhere)).problems] == ["SecretNotShared"]


async def test_the_installation_shares_whole_namespaces(world: World, elsewhere: str) -> None:
    specs = SpecActivities(world.kube, Timings(), Sharing(world.kube, {elsewhere}))
    assert (await load(world, specs, elsewhere)).problems == []


async def test_the_checkpoint_operators_namespace_is_shared_from_the_first(world: World, specs: SpecActivities) -> None:
    (problem,) = (await load(world, specs, "stateful-migration", "nothing-of-the-kind")).problems
    assert problem.reason == "SecretNotFound"


async def test_ones_own_namespace_needs_no_leave(world: World, specs: SpecActivities) -> None:
    await world.kube.create(world.path("v1", "secrets"), {"metadata": {"name": "theirs"}, "data": CLOUD})
    assert (await load(world, specs, world.job.namespace)).problems == []
    assert (await load(world, specs, None)).problems == []
