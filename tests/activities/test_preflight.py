"""The preflight, with the real API server and a real registry. The cloud's part has its own tests."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.cloud_errors import Missing
from activities.compute import Cloud
from activities.preflight.activities import PreflightActivities
from activities.signatures import Preflight, PreflightRequest
from activities.storage.bucket import SecretBuckets
from api.common import Condition
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Kube
from tests.activities.guarded_registry import PASSWORD, USER, guarded_registry
from tests.activities.world import VM, World, loopback_gate, run, training

CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD = f"{CRD_PATH}/checkpointbackups.migration.dcnlab.com"
STUB = Path(__file__).parents[2] / "sandbox" / "checkpoint_operator" / "crd-stub.yaml"


class NoCloud:
    """A cloud without credentials, because these tests do not look at its conditions."""

    async def open(self, *_: Any) -> Any:
        raise Missing("no cloud here")


@pytest.fixture
def activities(kube: Kube) -> PreflightActivities:
    cloud: Cloud = NoCloud()
    return PreflightActivities(kube, cloud, SecretBuckets(kube, loopback_gate()), loopback_gate())


@pytest.fixture
async def definition(kube: Kube, crds: None, control_plane: Any) -> AsyncIterator[None]:
    """Install the operator's CustomResourceDefinition, and restore it after the test, which may change it."""
    before = await kube.get(CRD)
    yield
    await kube.patch(CRD, {"spec": before["spec"]})
    await control_plane.kubectl("get", "checkpointbackups", "-A")  # kubectl asks again while the server gets ready


def request(world: World, repository: str, **config: Any) -> PreflightRequest:
    spec = SpotInstanceJobSpec.model_validate(
        {
            "jobTemplate": training(),
            "checkpointConfig": {"checkpointImageRepo": repository, **config},
            "spotInstanceVMRef": {"name": "spot"},
        }
    )
    return PreflightRequest(job=world.job, spec=spec, vm_spec=SpotInstanceVMSpec.model_validate(VM), candidates=[])


async def look(activities: PreflightActivities, asked: PreflightRequest) -> dict[str, Condition]:
    answer: Preflight = await run(activities.preflight, asked)
    return {condition.type: condition for condition in answer.conditions}


async def test_operator_and_registry_that_are_there_are_ready(
    world: World, activities: PreflightActivities, registry: str
) -> None:
    found = await look(activities, request(world, f"{registry.address}/team/train"))
    assert (found["CheckpointOperatorReady"].status, found["RegistryReady"].status) == ("True", "True")
    assert set(found) == {"CheckpointOperatorReady", "RegistryReady", "CredentialsReady", "CloudReady", "MachineFits"}


async def test_stub_of_the_operators_schema_is_refused(
    world: World, activities: PreflightActivities, definition: None, kube: Kube
) -> None:
    stub = yaml.safe_load(STUB.read_text())
    await kube.patch(CRD, {"spec": stub["spec"]})
    condition = (await look(activities, request(world, "127.0.0.1:9/r")))["CheckpointOperatorReady"]
    assert (condition.status, condition.reason) == ("False", "SchemaTooOld")
    assert "spec.stopPod" in condition.message
    assert "status.builtImages" in condition.message


async def test_training_that_checkpoints_itself_needs_neither(world: World, activities: PreflightActivities) -> None:
    found = await look(activities, request(world, "127.0.0.1:9/r", mode="Application"))
    assert found["CheckpointOperatorReady"].reason == found["RegistryReady"].reason == "NotNeeded"


async def test_registry_that_is_down_is_unknown_and_may_heal(world: World, activities: PreflightActivities) -> None:
    condition = (await look(activities, request(world, "127.0.0.1:9/r")))["RegistryReady"]
    assert (condition.status, condition.reason) == ("Unknown", "Unreachable")
    assert "127.0.0.1:9" in condition.message


async def test_secret_that_is_not_there_is_named(world: World, activities: PreflightActivities) -> None:
    config = {"checkpointRepoCredentialRef": {"name": "registry"}}
    condition = (await look(activities, request(world, "127.0.0.1:9/r", **config)))["RegistryReady"]
    assert (condition.status, condition.reason) == ("False", "Missing")
    assert f"{world.job.namespace}/registry" in condition.message


async def test_secret_in_another_format_is_told_which_it_has_to_be(
    world: World, activities: PreflightActivities
) -> None:
    await world.secret("registry", **{".dockerconfigjson": "{}"})
    config = {"checkpointRepoCredentialRef": {"name": "registry"}}
    condition = (await look(activities, request(world, "127.0.0.1:9/r", **config)))["RegistryReady"]
    assert "lacks username and password" in condition.message


async def test_who_may_pull_but_not_push_is_refused(world: World, activities: PreflightActivities) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    async with guarded_registry(bearer=True, may_push=False) as guarded:
        config = {"checkpointRepoCredentialRef": {"name": "registry"}}
        condition = (await look(activities, request(world, f"{guarded.address}/p/repo", **config)))["RegistryReady"]
    assert (condition.status, condition.reason) == ("False", "PermissionDenied")
    assert "push to p/repo" in condition.message


async def test_cloud_says_its_part(world: World, activities: PreflightActivities) -> None:
    found = await look(activities, request(world, "127.0.0.1:9/r"))
    assert (found["CredentialsReady"].status, found["CloudReady"].status) == ("False", "Unknown")
