"""Whether the cause that kept a pod from running still exists: a real registry, real Secrets and ConfigMaps."""

import base64
import json
from typing import Any

import pytest

from activities.replicas.causes import CauseActivities
from activities.signatures import FindCause
from clients.kube import Kube
from sandbox.oci import CONFIG_TYPE, MANIFEST_TYPE, OciClient
from sandbox.registry import Registry
from tests.activities.guarded_registry import PASSWORD, USER, guarded_registry
from tests.activities.world import World, loopback_gate, run


@pytest.fixture
def causes(kube: Kube) -> CauseActivities:
    return CauseActivities(kube, loopback_gate())


def asks(world: World, reason: str, **pod: Any) -> FindCause:
    """Make the question about a template with this pod."""
    return FindCause(job=world.job, job_template={"spec": {"template": {"spec": pod}}}, reason=reason)


def login(registry: str, password: str) -> str:
    """Make a Docker configuration."""
    return json.dumps({"auths": {registry: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}})


async def test_an_image_is_missing_until_it_is_pushed(
    world: World, causes: CauseActivities, registry: Registry, namespace: str
) -> None:
    image = f"{registry.address}/team/{namespace}:1"
    request = asks(world, "ImagePullBackOff", containers=[{"name": "train", "image": image}])
    assert image in (await run(causes.find_cause, request)).missing
    async with OciClient(registry.address, plain_http=True) as client:
        config = await client.push_blob(f"team/{namespace}", b"{}", CONFIG_TYPE)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}
        await client.push_manifest(f"team/{namespace}", "1", manifest)
    found = await run(causes.find_cause, request)
    assert (found.missing, found.known) == ("", True)


async def test_a_registry_that_does_not_answer_says_nothing(world: World, causes: CauseActivities) -> None:
    containers = [{"name": "train", "image": "127.0.0.1:1/team/train:1"}]
    found = await run(causes.find_cause, asks(world, "ImagePullBackOff", containers=containers))
    assert (found.missing, found.known) == ("", False)


async def test_a_secret_is_missing_until_it_has_the_key(world: World, causes: CauseActivities) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}}]
    request = asks(world, "CreateContainerConfigError", containers=[{"name": "train", "image": "i", "env": env}])
    assert "token, which jobTemplate names, does not exist" in (await run(causes.find_cause, request)).missing
    await world.kube.create(world.path("v1", "secrets"), {"metadata": {"name": "token"}, "stringData": {"other": "x"}})
    assert "token lacks the key value" in (await run(causes.find_cause, request)).missing
    change = {"stringData": {"value": "x"}}
    await world.kube.patch(world.path("v1", "secrets", "token"), change)
    assert (await run(causes.find_cause, request)).missing == ""


async def test_a_volumes_config_map_is_missing_until_it_is_there(world: World, causes: CauseActivities) -> None:
    volumes = [
        {"name": "a", "configMap": {"name": "config"}},
        {"name": "b", "secret": {"secretName": "c", "optional": True}},
    ]
    request = asks(world, "FailedMount", containers=[], volumes=volumes)
    assert "config, which jobTemplate names" in (await run(causes.find_cause, request)).missing
    await world.kube.create(world.path("v1", "configmaps"), {"metadata": {"name": "config"}, "data": {}})
    assert (await run(causes.find_cause, request)).missing == ""


async def test_of_other_reasons_nothing_is_known(world: World, causes: CauseActivities) -> None:
    assert not (await run(causes.find_cause, asks(world, "FailedCreatePodSandBox", containers=[]))).known


async def test_a_login_that_is_absent_is_named(world: World, causes: CauseActivities) -> None:
    async with guarded_registry(bearer=False) as guarded:
        pod: dict[str, Any] = {
            "containers": [{"name": "train", "image": f"{guarded.address}/p/repo:1"}],
            "imagePullSecrets": [{"name": "puller"}],
        }
        request = asks(world, "ImagePullBackOff", **pod)
        said = (await run(causes.find_cause, request)).missing
        assert f"Secret {world.job.namespace}/puller, which imagePullSecrets of jobTemplate names" in said
        secret = await world.secret("puller", **{".dockerconfigjson": login(guarded.address, "wrong")})
        assert guarded.address in (await run(causes.find_cause, request)).missing
        change = {"stringData": {".dockerconfigjson": login(guarded.address, PASSWORD)}}
        await world.kube.patch(secret, change)
        found = await run(causes.find_cause, request)
    assert (found.missing, found.known) == ("", True)


async def test_a_registry_that_refuses_us_may_let_nodes_in(world: World, causes: CauseActivities) -> None:
    async with guarded_registry(bearer=False) as guarded:
        containers = [{"name": "train", "image": f"{guarded.address}/p/repo:1"}]
        found = await run(causes.find_cause, asks(world, "ImagePullBackOff", containers=containers))
    assert (found.missing, found.known) == ("", False)
