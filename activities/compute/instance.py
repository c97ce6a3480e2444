"""A SpotInstanceVM's spec → the body of GCE's ``instances.insert``. Pure: plain JSON with GCE's own field names.

https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert
"""

import re
from collections.abc import Mapping
from typing import Any

from activities.cloud_errors import Invalid
from activities.compute.disks import default_disk_type
from api.formats import misshapen
from api.market import Candidate
from api.names import is_zone, shown
from api.spot_instance_vm import Gcp, SpotInstanceVMSpec

Json = dict[str, Any]

# Machine families with built-in GPUs: naming these as accelerators as well is an error.
_BUILT_IN_GPUS = re.compile(r"^(a2|a3|a4|a4x|g2|g4)-")

# Machine families without compact placement, which GKE's and Compute Engine's lists of those with it leave out.
_PLACED_APART = frozenset({"e2", "f1", "g1", "n1", "t2a", "t2d"})

# The projects of the public images, by the beginning of their family. Any other bare family is in the VM's own project.
_PUBLIC_IMAGES = {
    "ubuntu-": "ubuntu-os-cloud",
    "debian-": "debian-cloud",
    "rocky-linux-": "rocky-linux-cloud",
    "rhel-": "rhel-cloud",
    "centos-": "centos-cloud",
    "sles-": "suse-cloud",
    "common-": "deeplearning-platform-release",
    "pytorch-": "deeplearning-platform-release",
    "cos-": "cos-cloud",
}
_CONTAINER_OPTIMIZED = re.compile(r"(^|/)(cos-cloud/|cos-)")


def instance_body(
    spec: SpotInstanceVMSpec,
    *,
    name: str,
    candidate: Candidate,
    labels: Mapping[str, str],
    ssh_public_key: str,
    placement: str | None = None,
) -> Json:
    """Build the instance to ask for. The candidate is the spec's own zone, machine type and GPU, or an alternative.

    Raises:
        Invalid: the image cannot become a node, or a field has the wrong form.
    """
    for wrong in [*misshapen(spec), *misshapen(candidate)]:
        raise Invalid(str(wrong))
    if not is_zone(candidate.zone):
        raise Invalid(f"{shown(candidate.zone)} is no zone: correct gcp.zone, gcp.zones or gcp.alternatives")
    gcp, zone, machine_type, gpu = spec.gcp, candidate.zone, candidate.machine_type, candidate.gpu
    body: Json = {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/{machine_type}",
        "labels": dict(labels),
        "disks": [_boot_disk(spec, candidate)],
        "networkInterfaces": [_network_interface(gcp, candidate.region)],
        "scheduling": _scheduling(gcp, candidate),
        "metadata": {"items": _metadata(spec, ssh_public_key)},
        "tags": {"items": gcp.network_tags},
    }
    if gpu and not has_gpus_built_in(machine_type):
        accelerator = f"zones/{zone}/acceleratorTypes/{gpu.type}"
        body["guestAccelerators"] = [{"acceleratorType": accelerator, "acceleratorCount": gpu.count}]
    if gcp.service_account:
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]  # IAM decides what it may do
        body["serviceAccounts"] = [{"email": gcp.service_account, "scopes": scopes}]
    if gcp.min_cpu_platform:
        body["minCpuPlatform"] = gcp.min_cpu_platform
    if placement:
        body["resourcePolicies"] = [f"regions/{candidate.region}/resourcePolicies/{placement}"]
    return body


def placement_body(name: str, owner: str, zone: str) -> Json:
    """Build a resource policy that places instances near to each other.

    It has no labels, so its description says whose it is, and where the first instance of it was asked for. A
    ``vmCount`` would make it work for that exact number alone, and a gang buys its machines one by one.

    https://cloud.google.com/compute/docs/reference/rest/v1/resourcePolicies
    """
    return {
        "name": name,
        "description": f"{owner} zone={zone}",
        "groupPlacementPolicy": {"collocation": "COLLOCATED"},
    }


def zone_placed(description: str, owner: str) -> str | None:
    """Read the zone in the description of an owner's placement policy; None if it is somebody else's."""
    before, _, zone = description.rpartition(" zone=")
    return zone if before == owner and is_zone(zone) else None


def placement_owner(cluster_label: str) -> str:
    """Say of which cluster a placement policy is."""
    return f"outlast cluster={cluster_label}"


def placed_apart(machine_type: str) -> bool:
    """True if no machine of this family can be placed near to another one. Of most others only the cloud knows."""
    return machine_type.partition("-")[0] in _PLACED_APART


def _scheduling(gcp: Gcp, candidate: Candidate) -> Json:
    """Forbid GCE to restart a VM on its own. A VM with a GPU cannot be moved to another host."""
    common: Json = {"automaticRestart": False, "onHostMaintenance": "TERMINATE"}
    if candidate.provisioning == "OnDemand":
        return {"provisioningModel": "STANDARD", **common}
    # A stopped VM would leave its pods Terminating for minutes, and its disk would still cost money.
    spot: Json = {"provisioningModel": "SPOT", **common, "instanceTerminationAction": "DELETE"}
    if gcp.notice_seconds:
        spot["preemptionNoticeDuration"] = {"seconds": str(int(gcp.notice_seconds))}
    return spot


def disk_type_of(gcp: Gcp, candidate: Candidate) -> str | None:
    """Give the disk type that the spec names for a candidate; None if Outlast chooses."""
    return candidate.disk_type or gcp.disk_type


def disk_gb_of(gcp: Gcp, candidate: Candidate) -> int:
    """Give the size of a candidate's boot disk."""
    return candidate.disk_size_gb or gcp.disk_size_gb


def _boot_disk(spec: SpotInstanceVMSpec, candidate: Candidate) -> Json:
    disk_type = disk_type_of(spec.gcp, candidate) or default_disk_type(candidate.machine_type)
    return {
        "boot": True,
        "autoDelete": True,
        "initializeParams": {
            "sourceImage": image_path(spec.vm_image, spec.gcp.project),
            "diskSizeGb": str(disk_gb_of(spec.gcp, candidate)),
            "diskType": f"zones/{candidate.zone}/diskTypes/{disk_type}",
        },
    }


def image_path(image: str, project: str) -> str:
    """Give GCE's path of an image, from any form that the original operator allows in ``vmImage``.

    These are a ``family`` of a public project or the VM's own, ``project/family``, and a path of an image or family.

    Raises:
        Invalid: a Container-Optimized OS image, which cannot run kubeadm.
    """
    if _CONTAINER_OPTIMIZED.search(image):
        raise Invalid(
            f"vmImage {image}: Container-Optimized OS cannot run kubeadm; use an image with a package manager, "
            "for example ubuntu-os-cloud/ubuntu-2404-lts-amd64, or one of your own with kubeadm and kubelet in it"
        )
    if image.startswith(("projects/", "https://", "global/images/")):
        return image
    owner, _, family = image.rpartition("/")
    if owner in {"", "family"}:
        owner = next((public for prefix, public in _PUBLIC_IMAGES.items() if family.startswith(prefix)), project)
    if "/" in owner:
        raise Invalid(f"vmImage {image}: write family, project/family or projects/PROJECT/global/images/IMAGE")
    return f"projects/{owner}/global/images/family/{family}"


def _network_interface(gcp: Gcp, region: str) -> Json:
    interface: Json = {}
    if gcp.network or not gcp.subnetwork:
        network = gcp.network or "default"
        interface["network"] = network if "/" in network else f"global/networks/{network}"
    if gcp.subnetwork:
        path = f"regions/{region}/subnetworks/{gcp.subnetwork}"
        interface["subnetwork"] = gcp.subnetwork if "/" in gcp.subnetwork else path
    if gcp.external_ip:
        interface["accessConfigs"] = [{"type": "ONE_TO_ONE_NAT", "name": "External NAT"}]
    return interface


def _metadata(spec: SpotInstanceVMSpec, ssh_public_key: str) -> list[Json]:
    items = {"enable-guest-attributes": "TRUE"}  # the guest agent publishes its SSH host keys there
    if spec.gcp.ssh_access == "OSLogin":
        items["enable-oslogin"] = "TRUE"
    else:
        items |= {
            "ssh-keys": f"{spec.ssh_user}:{ssh_public_key}",
            "enable-oslogin": "FALSE",  # if the project has OS Login, it ignores ssh-keys
            "block-project-ssh-keys": "TRUE",
        }
    if spec.startup_script:
        items["startup-script"] = spec.startup_script
    return [{"key": key, "value": value} for key, value in items.items()]


def has_gpus_built_in(machine_type: str) -> bool:
    """True if this machine type has built-in GPUs (A2, A3, A4, G2, G4)."""
    return bool(_BUILT_IN_GPUS.match(machine_type))
