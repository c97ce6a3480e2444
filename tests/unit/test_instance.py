"""The body of an insert, checked against Google's own message type."""

import json
from typing import Any

import pytest
from google.cloud import compute_v1

from activities.cloud_errors import Invalid
from activities.compute.instance import image_path, instance_body
from api.market import Candidate, ProvisioningModel
from api.spot_instance_vm import SpotInstanceVMSpec

ZONE = "us-central1-b"


def vm_spec(**changes: Any) -> SpotInstanceVMSpec:
    gcp = {"project": "demo", "zone": "us-central1-a", "machineType": "n1-standard-4", **changes.pop("gcp", {})}
    gpu = {"type": "nvidia-tesla-t4", "count": 2}
    return SpotInstanceVMSpec.model_validate({"vmImage": "ubuntu-2204-lts", "gpu": gpu, "gcp": gcp, **changes})


def body_of(
    spec: SpotInstanceVMSpec, machine_type: str = "n1-standard-4", provisioning: ProvisioningModel = "Spot"
) -> compute_v1.Instance:
    body = instance_body(
        spec,
        name="vm",
        candidate=Candidate(zone=ZONE, machine_type=machine_type, gpu=spec.gpu, provisioning=provisioning),
        labels={"outlast-job": "a"},
        ssh_public_key="ssh-ed25519 K",
    )
    return compute_v1.Instance.from_json(json.dumps(body), ignore_unknown_fields=False)


def metadata_of(instance: compute_v1.Instance) -> dict[str, str]:
    return {item.key: item.value for item in instance.metadata.items}


def test_is_spot_and_goes_for_good() -> None:
    scheduling = body_of(vm_spec()).scheduling
    assert (scheduling.provisioning_model, scheduling.instance_termination_action) == ("SPOT", "DELETE")
    assert (scheduling.automatic_restart, scheduling.on_host_maintenance) == (False, "TERMINATE")


def test_on_demand_is_a_standard_instance_that_nobody_takes_back() -> None:
    scheduling = body_of(vm_spec(), provisioning="OnDemand").scheduling
    assert (scheduling.provisioning_model, scheduling.instance_termination_action) == ("STANDARD", "")
    assert (scheduling.automatic_restart, scheduling.on_host_maintenance) == (False, "TERMINATE")


@pytest.mark.parametrize(("written", "seconds"), [(None, 0), ("0s", 0), ("120s", 120), ("2m", 120)])
def test_is_told_of_its_preemption_as_long_before_as_the_spec_says(written: str | None, seconds: int) -> None:
    spec = vm_spec(gcp={"preemptionNoticeDuration": written})
    assert body_of(spec).scheduling.preemption_notice_duration.seconds == seconds
    assert body_of(spec, provisioning="OnDemand").scheduling.preemption_notice_duration.seconds == 0


def test_uses_the_candidates_zone_and_machine_type() -> None:
    instance = body_of(vm_spec(), machine_type="n1-standard-8")
    assert instance.machine_type == f"zones/{ZONE}/machineTypes/n1-standard-8"
    assert instance.disks[0].initialize_params.disk_type == f"zones/{ZONE}/diskTypes/pd-standard"


def test_bears_the_labels() -> None:
    assert dict(body_of(vm_spec()).labels) == {"outlast-job": "a"}


def test_publishes_host_keys_and_takes_our_key() -> None:
    metadata = metadata_of(body_of(vm_spec(sshUser="ml")))
    assert metadata["enable-guest-attributes"] == "TRUE"
    assert metadata["ssh-keys"] == "ml:ssh-ed25519 K"


def test_runs_the_startup_script() -> None:
    assert metadata_of(body_of(vm_spec(startupScript="#!/bin/sh\n")))["startup-script"] == "#!/bin/sh\n"
    assert "startup-script" not in metadata_of(body_of(vm_spec()))


def test_boot_disk_goes_with_the_vm() -> None:
    disk = body_of(vm_spec(gcp={"diskSizeGB": 200, "diskType": "pd-ssd"})).disks[0]
    assert (disk.boot, disk.auto_delete, disk.initialize_params.disk_size_gb) == (True, True, 200)
    assert disk.initialize_params.disk_type.endswith("/diskTypes/pd-ssd")


def test_attaches_gpus() -> None:
    (gpu,) = body_of(vm_spec()).guest_accelerators
    assert (gpu.accelerator_type, gpu.accelerator_count) == (f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", 2)


@pytest.mark.parametrize("machine_type", ["a2-highgpu-1g", "a3-highgpu-8g", "g2-standard-4", "a4x-highgpu-4g"])
def test_names_no_gpus_that_are_built_in(machine_type: str) -> None:
    assert not body_of(vm_spec(), machine_type).guest_accelerators


@pytest.mark.parametrize(
    ("gcp", "network", "subnetwork"),
    [
        ({}, "global/networks/default", ""),
        ({"network": "ml"}, "global/networks/ml", ""),
        ({"network": "projects/host/global/networks/ml"}, "projects/host/global/networks/ml", ""),
        ({"subnetwork": "ml"}, "", "regions/us-central1/subnetworks/ml"),
        ({"network": "ml", "subnetwork": "a"}, "global/networks/ml", "regions/us-central1/subnetworks/a"),
    ],
)
def test_joins_the_network(gcp: dict[str, str], network: str, subnetwork: str) -> None:
    (interface,) = body_of(vm_spec(gcp=gcp)).network_interfaces
    assert (interface.network, interface.subnetwork) == (network, subnetwork)


def test_has_an_external_address_only_when_asked() -> None:
    assert not body_of(vm_spec()).network_interfaces[0].access_configs
    assert body_of(vm_spec(gcp={"externalIP": True})).network_interfaces[0].access_configs


def test_service_account_has_the_cloud_platform_scope() -> None:
    assert not body_of(vm_spec()).service_accounts
    (account,) = body_of(vm_spec(gcp={"serviceAccount": "vm@demo.iam.gserviceaccount.com"})).service_accounts
    assert account.scopes == ["https://www.googleapis.com/auth/cloud-platform"]


def test_tags_and_cpu_platform() -> None:
    instance = body_of(vm_spec(gcp={"networkTags": ["ssh"], "minCpuPlatform": "Intel Skylake"}))
    assert (list(instance.tags.items), instance.min_cpu_platform) == (["ssh"], "Intel Skylake")


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("ubuntu-2204-lts", "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"),
        ("my-gpu-node", "projects/demo/global/images/family/my-gpu-node"),
        ("family/my-gpu-node", "projects/demo/global/images/family/my-gpu-node"),
        ("ml-images/gpu-node", "projects/ml-images/global/images/family/gpu-node"),
        ("projects/ml/global/images/gpu-7", "projects/ml/global/images/gpu-7"),
        ("projects/ml/global/images/family/gpu", "projects/ml/global/images/family/gpu"),
        ("global/images/gpu-7", "global/images/gpu-7"),
        (
            "https://www.googleapis.com/compute/v1/projects/ml/global/images/gpu-7",
            "https://www.googleapis.com/compute/v1/projects/ml/global/images/gpu-7",
        ),
    ],
)
def test_image_in_all_its_spellings(image: str, path: str) -> None:
    assert image_path(image, "demo") == path


@pytest.mark.parametrize("image", ["cos-stable", "cos-cloud/cos-121-lts", "projects/cos-cloud/global/images/cos-121-1"])
def test_container_optimized_os_is_refused_with_the_remedy(image: str) -> None:
    with pytest.raises(Invalid, match="cannot run kubeadm; use an image"):
        image_path(image, "demo")


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="write family, project/family"):
        image_path("a/b/c", "demo")
