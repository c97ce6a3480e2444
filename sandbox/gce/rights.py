"""What a creation asks for beside `instances.create`, by what the instance is made of.

https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert (Authorization requires …) and
https://cloud.google.com/compute/docs/access/iam-permissions
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def of_creation(body: dict[str, Any]) -> Iterator[str]:
    """Their full names; `body` is an `Instance`."""
    if body.get("labels"):
        yield "compute.instances.setLabels"
    if (body.get("metadata") or {}).get("items"):
        yield "compute.instances.setMetadata"
    if (body.get("tags") or {}).get("items"):
        yield "compute.instances.setTags"
    if body.get("serviceAccounts"):
        yield "compute.instances.setServiceAccount"
        yield "iam.serviceAccounts.actAs"
    for disk in body.get("disks") or []:
        parameters = disk.get("initializeParams")
        if parameters is not None:
            yield "compute.disks.create"
        if (parameters or {}).get("sourceImage"):
            yield "compute.images.useReadOnly"
    for interface in body.get("networkInterfaces") or []:
        yield "compute.subnetworks.use"
        if interface.get("accessConfigs"):
            yield "compute.subnetworks.useExternalIp"
