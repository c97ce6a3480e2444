"""The cloud's part of the preflight, against the emulated GCE through Google's own client."""

from typing import Any

import pytest

from activities.compute.gcp import GcpCloud
from activities.compute.preflight import check_cloud
from activities.signatures import JobRef, PreflightRequest
from api.market import Candidate
from api.spot_instance_job import SpotInstanceJobSpec
from tests.activities.compute_setting import ZONE, Setting, create_vm, setting

__all__ = ["setting"]


def preflight(*others: Candidate, **spec: Any) -> PreflightRequest:
    job = {
        "jobTemplate": {},
        "checkpointConfig": {"checkpointImageRepo": "r/a"},
        "spotInstanceVMRef": {"name": "t4"},
    }
    vm_spec = create_vm(**spec).spec
    own = Candidate(zone=vm_spec.gcp.zone, machine_type=vm_spec.gcp.machine_type, gpu=vm_spec.gpu)
    return PreflightRequest(
        candidates=[own, *others],
        job=JobRef(namespace="default", name="train", uid="u", job_id="0badcafe"),
        spec=SpotInstanceJobSpec.model_validate(job),
        vm_spec=vm_spec,
    )


async def test_preflight_passes(setting: Setting) -> None:
    conditions = await check_cloud(setting.cloud, preflight())
    assert [(c.type, c.status) for c in conditions] == [("CredentialsReady", "True"), ("CloudReady", "True")]


async def test_preflight_names_the_permission_that_lacks(setting: Setting) -> None:
    setting.gce.faults.withdraw_permissions("compute.instances.delete")
    credentials, _ = await check_cloud(setting.cloud, preflight())
    assert (credentials.status, credentials.reason) == ("False", "PermissionDenied")
    assert "compute.instances.delete on project demo" in credentials.message


GCP = {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4"}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"gcp": GCP | {"zone": "us-nowhere9-a"}}, "us-nowhere9-a"),
        ({"gcp": GCP | {"machineType": "n1-standard-5"}}, "no n1-standard-5"),
        ({"gpu": {"type": "nvidia-tesla-x9"}}, "no nvidia-tesla-x9"),
        (
            {"gcp": GCP | {"machineType": "g2-standard-4"}},
            "has 1 x nvidia-l4 built in, the spec says 1 x nvidia-tesla-t4",
        ),
        (
            {"gcp": GCP | {"machineType": "g2-standard-4", "diskType": "pd-standard"}},
            "g2-standard-4 does not boot from pd-standard: write pd-balanced",
        ),
        (
            {"gcp": GCP | {"zone": "us-central1-b", "machineType": "a4-highgpu-8g", "diskType": "pd-ssd"}},
            "write hyperdisk-balanced",
        ),
        ({"vmImage": "projects/demo/global/images/none"}, "there is no projects/demo/global/images/none"),
        ({"vmImage": "cos-stable"}, "cannot run kubeadm"),
    ],
)
async def test_preflight_names_what_the_cloud_does_not_have(setting: Setting, spec: Any, problem: str) -> None:
    _, cloud = await check_cloud(setting.cloud, preflight(**spec))
    assert cloud.status == "False"
    assert problem in cloud.message


async def test_preflight_does_not_blame_anybody_for_a_cloud_that_is_down() -> None:
    cloud = GcpCloud(None, "http://127.0.0.1:1")  # type: ignore[arg-type] # nothing here names a Secret
    assert {condition.status for condition in await check_cloud(cloud, preflight())} == {"Unknown"}
    cloud.close()


async def test_one_candidate_that_exists_is_enough_and_the_others_are_told(setting: Setting) -> None:
    nowhere = Candidate(zone="us-nowhere9-a", machine_type="n1-standard-4")
    _, cloud = await check_cloud(setting.cloud, preflight(nowhere))
    assert cloud.status == "True"
    assert "left out: gcp.zone: project demo has no zone us-nowhere9-a" in cloud.message


def of_gang(request: PreflightRequest, least: int, most: int) -> PreflightRequest:
    gang = {"gang": {"minSize": least, "maxSize": most}, "replicas": 1}
    spec = SpotInstanceJobSpec.model_validate(request.spec.model_dump(by_alias=True, exclude_none=True) | gang)
    return request.model_copy(update={"spec": spec})


@pytest.mark.parametrize(("least", "most", "fits"), [(2, 2, True), (3, 3, False), (2, 4, True)])
async def test_a_gang_that_no_quota_can_hold_is_told_before_money_is_spent(
    setting: Setting, least: int, most: int, fits: bool
) -> None:
    setting.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 2, region="us-central1")
    _, cloud = await check_cloud(setting.cloud, of_gang(preflight(), least, most))
    assert (cloud.status == "True") is fits
    if not fits:
        assert cloud.reason == "QuotaExceeded"
        assert "3 machines" in cloud.message
        assert "PREEMPTIBLE_NVIDIA_T4_GPUS in us-central1 is 2" in cloud.message
        assert "lower gang.minSize" in cloud.message


async def test_one_region_with_quota_is_enough_for_a_gang(setting: Setting) -> None:
    setting.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 2, region="us-central1")
    gpu = preflight().candidates[0].gpu
    elsewhere = Candidate(zone="us-east1-c", machine_type="n1-standard-4", gpu=gpu)
    _, cloud = await check_cloud(setting.cloud, of_gang(preflight(elsewhere), 3, 3))
    assert cloud.status == "True"


async def test_quotas_that_may_not_be_read_keep_no_gang_waiting(setting: Setting) -> None:
    setting.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 2, region="us-central1")
    setting.gce.faults.withdraw_permissions("compute.regions.get")
    _, cloud = await check_cloud(setting.cloud, of_gang(preflight(), 3, 3))
    assert cloud.status == "True"
