"""The check of an insert's body: everything about a VM but its placement (name, labels, disks, network, metadata)."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from sandbox.gce import catalog
from sandbox.gce.errors import invalid_field, not_compatible, not_found, required_field
from sandbox.gce.images import Image, Images
from sandbox.gce.links import resource_path, self_link
from sandbox.gce.placement import Placement, check_placement
from sandbox.gce.policies import Policies

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_EMAIL = re.compile(r"default|[^@\s]+@[^@\s]+\.[^@\s]+")
_MAX_METADATA_VALUE = 256 * 1024


@dataclass(frozen=True)
class Blueprint:
    """A VM that can be made: its placement, and the part of its resource that its owner chose."""

    project: str
    zone: str
    placement: Placement
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the VM."""
        return str(self.resource["name"])


def check_insert(
    body: dict[str, Any], project: str, zone: str, images: Images, networks: Set[str], policies: Policies
) -> Blueprint:
    """Return what an insert asks for, with the service's defaults.

    Raises:
        ApiError: 400 or 404; it names the field.
    """
    name = body.get("name", "")
    if not _NAME.fullmatch(name):
        raise invalid_field("resource.name", name, f"Must be a match of regex '(?:{_NAME.pattern})'")
    placement = check_placement(body, project, zone)
    resource = {
        "kind": "compute#instance",
        "name": name,
        "tags": {"items": _tags(body.get("tags", {}))},
        "machineType": self_link(f"projects/{project}/zones/{zone}/machineTypes/{placement.machine_type.name}"),
        "zone": self_link(f"projects/{project}/zones/{zone}"),
        "canIpForward": body.get("canIpForward", False),
        "networkInterfaces": _network_interfaces(body.get("networkInterfaces", []), project, zone, networks),
        "disks": _disks(body.get("disks", []), name, placement, project, zone, images),
        "metadata": {"kind": "compute#metadata", "items": check_metadata(body.get("metadata", {}))},
        "serviceAccounts": _service_accounts(body.get("serviceAccounts", [])),
        "scheduling": placement.scheduling,
        "labels": check_labels(body.get("labels", {})),
        "guestAccelerators": placement.accelerator_resources(project, zone),
        "resourcePolicies": policies.check(body.get("resourcePolicies", []), project, zone, placement.machine_type),
        "cpuPlatform": body.get("minCpuPlatform", "Intel Broadwell"),
        "startRestricted": False,
        "deletionProtection": body.get("deletionProtection", False),
    }
    for kept in ("description", "hostname", "minCpuPlatform", "shieldedInstanceConfig", "reservationAffinity"):
        if kept in body:
            resource[kept] = body[kept]
    chosen = {key: value for key, value in resource.items() if value != []}
    return Blueprint(project, zone, placement, chosen)


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return ``labels`` if they are allowed: 64 at most, of 63 lower-case letters, digits, ``-`` and ``_`` at most.

    Raises:
        ApiError: 400.
    """
    field = "resource.labels"
    if len(labels) > 64:
        raise invalid_field(field, "", f"The number of labels, {len(labels)}, exceeds the limit of 64.")
    for key, value in labels.items():
        if not key or not key[0].isalpha() or not _label_text(key):
            raise invalid_field(
                field,
                "",
                f"Label key '{key}' violates format constraints. The key must start with a lowercase character, can "
                "only contain lowercase letters, numeric characters, underscores and dashes. The key can be at most 63 "
                "characters long. International characters are allowed.",
            )
        if not _label_text(value):
            raise invalid_field(
                field,
                "",
                f"Label value '{value}' violates format constraints. The value can only contain lowercase letters, "
                "numeric characters, underscores and dashes. The value can be at most 63 characters long. "
                "International characters are allowed.",
            )
    return labels


def check_metadata(metadata: dict[str, Any]) -> list[dict[str, str]]:
    """Return the items of ``metadata``, if their keys and sizes are allowed.

    Raises:
        ApiError: 400.
    """
    items: list[dict[str, str]] = metadata.get("items", [])
    keys = [item.get("key", "") for item in items]
    for item in items:
        key = item.get("key", "")
        if not _METADATA_KEY.fullmatch(key):
            raise invalid_field("resource.metadata.items", key, "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'")
        if keys.count(key) > 1:
            raise invalid_field("resource.metadata", key, "Duplicate metadata key.")
        if len(item.get("value", "").encode()) > _MAX_METADATA_VALUE:
            raise invalid_field(
                f"resource.metadata.items.{key}",
                "",
                f"Value is larger than the maximum of {_MAX_METADATA_VALUE} bytes.",
            )
    return [{"key": item["key"], "value": item.get("value", "")} for item in items]


def _label_text(text: str) -> bool:
    return len(text) <= 63 and all(
        c in "-_" or c.isdigit() or (c.isalpha() and c == c.lower() and c.isprintable()) for c in text
    )


def _tags(tags: dict[str, Any]) -> list[str]:
    items: list[str] = tags.get("items", [])
    for index, tag in enumerate(items):
        if not _NAME.fullmatch(tag):
            raise invalid_field(f"resource.tags.items[{index}]", tag, f"Must be a match of regex '(?:{_NAME.pattern})'")
    return items


def _network_interfaces(
    interfaces: list[dict[str, Any]], project: str, zone: str, networks: Set[str]
) -> list[dict[str, Any]]:
    if not interfaces:
        raise required_field("resource.networkInterfaces")
    if len(interfaces) > 1:
        raise invalid_field("resource.networkInterfaces", "", "The sandbox emulates one network interface for each VM.")
    interface = interfaces[0]
    region = catalog.region_of(zone)
    field = "resource.networkInterfaces[0]"
    given_subnetwork = interface.get("subnetwork")
    subnetwork = None
    if given_subnetwork:
        subnetwork = _known(given_subnetwork, f"{field}.subnetwork", project, f"regions/{region}/subnetworks", networks)
    given_network = interface.get("network")
    if given_network:
        network = _known(given_network, f"{field}.network", project, "global/networks", networks)
    else:
        network = f"projects/{project}/global/networks/{subnetwork.rsplit('/', 1)[-1] if subnetwork else 'default'}"
    checked = {
        "kind": "compute#networkInterface",
        "name": "nic0",
        "network": self_link(network),
        "subnetwork": self_link(
            subnetwork or f"projects/{project}/regions/{region}/subnetworks/{network.rsplit('/', 1)[-1]}"
        ),
        "stackType": interface.get("stackType", "IPV4_ONLY"),
    }
    if "nicType" in interface:
        checked["nicType"] = interface["nicType"]
    if access := interface.get("accessConfigs"):
        checked["accessConfigs"] = [
            {
                "kind": "compute#accessConfig",
                "type": "ONE_TO_ONE_NAT",
                "name": access[0].get("name", "external-nat"),
                "networkTier": access[0].get("networkTier", "PREMIUM"),
            }
        ]
    return [checked]


def _known(reference: str, field: str, project: str, collection: str, names: Set[str]) -> str:
    """Return the path of a network or subnetwork if the reference is well formed and it exists."""
    path = resource_path(reference, project)
    if path is None:
        raise invalid_field(field, reference, "The URL is malformed.")
    parent, _, name = path.rpartition("/")
    if not parent.endswith(f"/{collection}") or name not in names:
        raise not_found(path)
    return path


def _disks(
    disks: list[dict[str, Any]], name: str, placement: Placement, project: str, zone: str, images: Images
) -> list[dict[str, Any]]:
    if not disks:
        raise invalid_field("resource.disks", "", "No disks are specified.")
    if not disks[0].get("boot"):
        raise invalid_field(
            "resource.disks[0].boot", "false", "Boot disk must be the first disk attached to the instance."
        )
    return [_disk(index, disk, name, placement, project, zone, images) for index, disk in enumerate(disks)]


def _disk(
    index: int, disk: dict[str, Any], name: str, placement: Placement, project: str, zone: str, images: Images
) -> dict[str, Any]:
    field = f"resource.disks[{index}]"
    if source := disk.get("source"):
        raise not_found(resource_path(source, project) or source)  # the emulated cloud has no disks without a VM
    params = disk.get("initializeParams")
    if params is None:
        raise required_field(f"{field}.initializeParams")
    image: Image | None = None
    if index == 0 or "sourceImage" in params:
        if not params.get("sourceImage"):
            raise required_field(f"{field}.initializeParams.sourceImage")
        image = images.resolve(params["sourceImage"], project)
    smallest = image.disk_gb if image else 10
    size = int(params.get("diskSizeGb") or disk.get("diskSizeGb") or smallest)
    if size < smallest:
        raise invalid_field(
            f"{field}.initializeParams.diskSizeGb",
            size,
            f"Requested disk size cannot be smaller than the image size ({smallest} GB)",
        )
    _check_disk_type(params.get("diskType"), f"{field}.initializeParams.diskType", placement, project, zone)
    disk_name = params.get("diskName") or (name if index == 0 else f"{name}-{index}")
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": disk.get("mode", "READ_WRITE"),
        "source": self_link(f"projects/{project}/zones/{zone}/disks/{disk_name}"),
        "deviceName": disk.get("deviceName", f"persistent-disk-{index}"),
        "index": index,
        "boot": index == 0,
        "autoDelete": disk.get("autoDelete", False),
        "interface": disk.get("interface", "SCSI"),
        "diskSizeGb": str(size),
        "architecture": "X86_64",
    }


def _check_disk_type(reference: str | None, field: str, placement: Placement, project: str, zone: str) -> None:
    if not reference:
        return
    match (resource_path(reference, project) or "").split("/"):
        case ["projects", _, "zones", where, "diskTypes", kind]:
            if where != zone or kind not in catalog.DISK_TYPES:
                raise not_found(f"projects/{project}/zones/{where}/diskTypes/{kind}")
            if kind in placement.machine_type.no_disk_types:
                raise not_compatible(placement.machine_type.name, kind)
            return
    raise invalid_field(field, reference, "The URL is malformed.")


def _service_accounts(accounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(accounts) > 1:
        raise invalid_field("resource.serviceAccounts", "", "At most one service account can be specified.")
    for account in accounts:
        if not _EMAIL.fullmatch(account.get("email", "")):
            raise invalid_field(
                "resource.serviceAccounts[0].email", account.get("email", ""), "Must be a valid service account email."
            )
    return accounts
