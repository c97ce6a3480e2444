"""The checkpoint repository is opened by its own Secret's credentials or, on Google's hosts, by the cloud's key."""

import base64
import json

import pytest
from temporalio.exceptions import ApplicationError

from activities.registry.credentials import pulls_by, repository_credentials
from activities.replicas.activities import ReplicaActivities
from api import errors
from api.common import SecretReference
from clients.kube import Kube
from tests.activities.world import World, run

GOOGLE = "us-docker.pkg.dev/p/repo/ckpt"
KEY = '{"type": "service_account", "project_id": "p"}\n'
CLOUD = SecretReference(name="cloud")


async def keep_key(world: World, key: str = KEY) -> None:
    await world.kube.create(
        world.path("v1", "secrets"),
        {"metadata": {"name": "cloud"}, "data": {"credentials.json": base64.b64encode(key.encode()).decode()}},
    )


@pytest.mark.parametrize("repository", [GOOGLE, "gcr.io/p/ckpt", "eu.gcr.io/p/ckpt"])
async def test_the_clouds_key_opens_googles_registries(world: World, kube: Kube, repository: str) -> None:
    await keep_key(world)
    found = await repository_credentials(kube, repository, None, CLOUD, world.job.namespace)
    assert found is not None
    assert (found.username, found.password) == ("_json_key", KEY.strip())
    assert "service_account" not in repr(found)


@pytest.mark.parametrize("repository", ["docker.io/u/repo", "gcr.io.example.com/p", "127.0.0.1:5000/p", "xgcr.io/p/r"])
async def test_the_clouds_key_is_shown_to_nobody_else(world: World, kube: Kube, repository: str) -> None:
    await keep_key(world)
    assert await repository_credentials(kube, repository, None, CLOUD, world.job.namespace) is None


async def test_the_repositorys_own_secret_goes_before_the_clouds(world: World, kube: Kube) -> None:
    await keep_key(world)
    await world.secret("registry", username="u", password="p")
    own = SecretReference(name="registry")
    found = await repository_credentials(kube, GOOGLE, own, CLOUD, world.job.namespace)
    assert found is not None
    assert found.username == "u"


async def test_key_that_is_not_in_the_secret_is_named(world: World, kube: Kube) -> None:
    await world.secret("cloud", other="x")
    with pytest.raises(ApplicationError, match=r"lacks credentials\.json") as caught:
        await repository_credentials(kube, GOOGLE, None, CLOUD, world.job.namespace)
    assert caught.value.type == errors.MISSING


async def test_pods_pull_by_the_clouds_key(world: World, kube: Kube) -> None:
    await keep_key(world)
    request = world.create_replica(cloud_credentials=CLOUD, checkpoint_image_repo=GOOGLE)
    await run(ReplicaActivities(kube, world.job.namespace).create_replica, request)
    secret = await kube.get(world.path("v1", "secrets", "resnet-0a1b2c3d-pull"))
    auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    assert auths["us-docker.pkg.dev"]["username"] == "_json_key"
    pod = (await kube.get(world.path("batch/v1", "jobs", "resnet-0a1b2c3d-r0-i1")))["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "resnet-0a1b2c3d-pull"}]


def test_key_of_another_namespace_is_not_copied_into_the_jobs(world: World) -> None:
    request = world.create_replica(
        cloud_credentials=SecretReference(name="cloud", namespace="vault"), checkpoint_image_repo=GOOGLE
    )
    assert pulls_by(request) is None
