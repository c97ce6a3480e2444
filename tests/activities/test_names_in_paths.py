"""A name is a name: what a user writes leads to no object of another namespace."""

import base64
import secrets

import pytest

from activities.replicas.activities import ReplicaActivities
from api.common import SecretReference
from clients.kube import Kube, KubeError, UnsafeNameError, path
from tests.activities.world import World, run


@pytest.fixture
async def victim(kube: Kube) -> str:
    """Make a Secret of another namespace, and return its path."""
    namespace = f"victim-{secrets.token_hex(3)}"
    await kube.create(path("v1", "namespaces"), {"metadata": {"name": namespace}})
    data = {key: base64.b64encode(key.encode()).decode() for key in ("username", "password")}
    await kube.create(path("v1", "secrets", namespace), {"metadata": {"name": "db"}, "data": data})
    return path("v1", "secrets", namespace, "db")


def leading_to(victim: str) -> str:
    """Make a name that, between the slashes of a path, would have been ``victim``."""
    return f"../..{victim.removeprefix('/api/v1/namespaces')}"


async def test_a_name_does_not_lead_into_another_namespace(world: World, kube: Kube, victim: str) -> None:
    before, reference = await kube.get(victim), {"name": leading_to(victim)}
    with pytest.raises(KubeError, match="not the name of an object: write lower case letters") as refused:
        await kube.patch(world.job_path, {"spec": {"checkpointConfig": {"checkpointRepoCredentialRef": reference}}})
    assert refused.value.status == 422
    # An object that was stored before the CRD refused it still comes to the activities.
    replicas = ReplicaActivities(kube, world.job.namespace)
    request = world.create_replica(
        "nowhere", image_pull=SecretReference(**reference), checkpoint_image_repo="gcr.io/p/r"
    )
    with pytest.raises(UnsafeNameError, match="is not the name of an object"):
        await run(replicas.create_replica, request)
    assert await kube.get(victim) == before
    assert await kube.list(world.path("batch/v1", "jobs")) == []


async def test_no_path_that_leads_upwards_is_sent(kube: Kube, victim: str) -> None:
    """Whoever made the path."""
    for where in (f"/api/v1/namespaces/mine/secrets/{leading_to(victim)}", f"{victim}?x=y", "/api/v1/../v1", "api/v1"):
        with pytest.raises(UnsafeNameError, match="is not a path of the API"):
            await kube.get(where)
