"""Secrets of another namespace: the worker reads any, and a job may name those shared with its namespace."""

import base64
import re
import secrets
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.kubernetes.secret import Sharing
from activities.signatures import JobDocument
from api import names
from api.timings import Timings
from clients.kube import Kube, path
from tests.activities.world import LENT, World, run

CLOUD = {"credentials.json": "e30="}


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings(), grants=LENT)


@pytest.fixture
async def elsewhere(kube: Kube) -> AsyncIterator[str]:
    """Make another namespace, with the Secret ``theirs``."""
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
    specs = SpecActivities(world.kube, Timings(), Sharing(world.kube, {elsewhere}), LENT)
    assert (await load(world, specs, elsewhere)).problems == []


async def test_no_namespace_is_shared_from_the_first(world: World, specs: SpecActivities) -> None:
    (problem,) = (await load(world, specs, "stateful-migration", "registry-credentials")).problems
    assert problem.reason == "SecretNotShared"


async def test_the_command_that_the_condition_names_shares_all_of_them(
    world: World, specs: SpecActivities, elsewhere: str, control_plane: Any
) -> None:
    """It is run as the message has it, also for a job that names two Secrets, as the original operator's samples do."""
    data = {key: base64.b64encode(b"x").decode() for key in ("username", "password")}
    await world.kube.create(path("v1", "secrets", elsewhere), {"metadata": {"name": "registry"}, "data": data})
    config = {"checkpointRepoCredentialRef": {"name": "registry", "namespace": elsewhere}}
    await world.kube.patch(world.job_path, {"spec": {"checkpointConfig": config}})
    (problem,) = (await load(world, specs, elsewhere)).problems
    found = re.search(r"kubectl (annotate secret .*=\S+) \(", problem.message)
    assert found is not None
    await control_plane.kubectl(*shlex.split(found[1]))
    assert (await load(world, specs, elsewhere)).problems == []


async def test_a_running_job_keeps_a_secret_that_is_shared_no_longer(
    world: World, specs: SpecActivities, elsewhere: str
) -> None:
    """This is an upgrade whose default shares nothing. The job's finalizer on the Secret says that it was granted."""
    before = SpecActivities(world.kube, Timings(), Sharing(world.kube, {elsewhere}), LENT)
    assert (await load(world, before, elsewhere)).problems == []
    assert (await load(world, specs, elsewhere)).problems == []
    other = world.job.model_copy(update={"job_id": "ffffffff"})
    document: JobDocument = await run(specs.load_job, other)
    assert [problem.reason for problem in document.problems] == ["SecretNotShared"]


async def test_ones_own_namespace_needs_no_leave(world: World, specs: SpecActivities) -> None:
    await world.kube.create(world.path("v1", "secrets"), {"metadata": {"name": "theirs"}, "data": CLOUD})
    assert (await load(world, specs, world.job.namespace)).problems == []
    assert (await load(world, specs, None)).problems == []
