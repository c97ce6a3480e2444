"""Repeated checks: jobs share an answer for a while, if the question and the credentials are the same."""

import base64
import time
from typing import Any

from activities.preflight.activities import PreflightActivities
from activities.signatures import PreflightRequest
from activities.storage.bucket import SecretBuckets
from api.common import Condition
from api.spot_instance_job import SpotInstanceJobSpec
from clients.kube import Kube
from tests.activities.compute_setting import Setting, setting
from tests.activities.guarded_registry import PASSWORD, USER, guarded_registry
from tests.activities.test_preflight_cloud import preflight
from tests.activities.world import World, loopback_gate, run, training

__all__ = ["setting"]


def activities(kube: Kube, setting: Setting, shared_for: float = 60) -> PreflightActivities:
    buckets = SecretBuckets(kube, loopback_gate())
    return PreflightActivities(kube, setting.cloud, buckets, loopback_gate(), shared_for=shared_for)


def request(world: World, repository: str = "127.0.0.1:9/r", *, again: bool = True, **config: Any) -> PreflightRequest:
    spec = SpotInstanceJobSpec.model_validate(
        {
            "jobTemplate": training(),
            "checkpointConfig": {"checkpointImageRepo": repository, **config},
            "spotInstanceVMRef": {"name": "spot"},
        }
    )
    return preflight().model_copy(update={"job": world.job, "spec": spec, "again": again})


def of_another_job(asked: PreflightRequest, namespace: str | None = None) -> PreflightRequest:
    job = asked.job.model_copy(
        update={"name": "another", "job_id": "00000000", "namespace": namespace or asked.job.namespace}
    )
    return asked.model_copy(update={"job": job})


async def look(one: PreflightActivities, asked: PreflightRequest, kind: str) -> Condition:
    answer = await run(one.preflight, asked)
    return next(condition for condition in answer.conditions if condition.type == kind)


async def test_a_good_answer_is_shared_for_a_while(world: World, kube: Kube, setting: Setting) -> None:
    one, asked = activities(kube, setting, shared_for=600), request(world)
    assert (await look(one, asked, "CredentialsReady")).status == "True"
    setting.gce.faults.withdraw_permissions("compute.instances.delete")
    assert (await look(one, of_another_job(asked), "CredentialsReady")).status == "True"
    one._answers._clock = lambda: time.monotonic() + 600
    assert (await look(one, of_another_job(asked), "CredentialsReady")).status == "False"


async def test_before_money_is_spent_everything_is_looked_at(world: World, kube: Kube, setting: Setting) -> None:
    one = activities(kube, setting)
    assert (await look(one, request(world), "CredentialsReady")).status == "True"
    setting.gce.faults.withdraw_permissions("compute.instances.delete")
    assert (await look(one, request(world, again=False), "CredentialsReady")).status == "False"


async def test_another_namespace_is_not_told_what_the_workers_identity_may(
    world: World, kube: Kube, setting: Setting
) -> None:
    one, asked = activities(kube, setting), request(world)
    assert (await look(one, asked, "CredentialsReady")).status == "True"
    setting.gce.faults.withdraw_permissions("compute.instances.delete")
    assert (await look(one, of_another_job(asked, "elsewhere"), "CredentialsReady")).status == "False"


async def test_another_spec_asks_anew(world: World, kube: Kube, setting: Setting) -> None:
    one, asked = activities(kube, setting), request(world)
    assert (await look(one, asked, "CloudReady")).status == "True"
    nowhere = preflight(gcp={"project": "demo", "zone": "us-nowhere9-a", "machineType": "n1-standard-4"})
    edited = asked.model_copy(update={"vm_spec": nowhere.vm_spec, "candidates": nowhere.candidates})
    assert (await look(one, edited, "CloudReady")).status == "False"


async def test_another_content_of_a_secret_asks_anew(world: World, kube: Kube, setting: Setting) -> None:
    secret = await world.secret("registry", username=USER, password=PASSWORD)
    one, config = activities(kube, setting), {"checkpointRepoCredentialRef": {"name": "registry"}}
    async with guarded_registry(bearer=True) as guarded:
        asked = request(world, f"{guarded.address}/p/repo", **config)
        assert (await look(one, asked, "RegistryReady")).status == "True"
        await kube.patch(secret, {"data": {"password": base64.b64encode(b"revoked").decode()}})
        assert (await look(one, asked, "RegistryReady")).status == "False"
