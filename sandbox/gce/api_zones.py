"""What can be read of the cloud itself: operations, zones, regions, machine and accelerator types, images, projects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from google.cloud import compute_v1

from sandbox.gce import catalog
from sandbox.gce.errors import not_found
from sandbox.gce.faults import Faults
from sandbox.gce.fleet import Fleet
from sandbox.gce.http import Call, Route
from sandbox.gce.links import self_link
from sandbox.gce.listing import listing, page
from sandbox.gce.operations import Operations
from sandbox.gce.quotas import quota_resources

Sold = TypeVar("Sold", catalog.MachineType, catalog.Accelerator)

LONGEST_WAIT = 120.0
"""How long ``zoneOperations.wait`` lets its caller wait, in seconds."""


class ZonesApi:
    """The methods of everything but ``instances``."""

    def __init__(self, fleet: Fleet, operations: Operations, faults: Faults) -> None:
        self._fleet = fleet
        self._operations = operations
        self._faults = faults

    def routes(self) -> list[Route]:
        """Return paths below ``projects/``."""
        zone = "/{project}/zones/{zone}"
        operation = zone + "/operations/{operation}"
        return [
            Route("GET", zone + "/operations", self.list_operations, "zoneOperations.list", "ListZoneOperations"),
            Route("GET", operation, self.get_operation, "zoneOperations.get", "GetZoneOperation"),
            Route("POST", operation + "/wait", self.wait_operation, "zoneOperations.get", "WaitZoneOperation"),
            Route("GET", "/{project}", self.get_project, "projects.get", "GetProject"),
            Route("GET", "/{project}/zones", self.list_zones, "zones.list", "ListZones"),
            Route("GET", zone, self.get_zone, "zones.get", "GetZone"),
            Route("GET", "/{project}/regions", self.list_regions, "regions.list", "ListRegions"),
            Route("GET", "/{project}/regions/{region}", self.get_region, "regions.get", "GetRegion"),
            Route("GET", zone + "/machineTypes", self.list_machine_types, "machineTypes.list", "ListMachineTypes"),
            Route("GET", zone + "/machineTypes/{name}", self.get_machine_type, "machineTypes.get", "GetMachineType"),
            Route(
                "GET",
                zone + "/acceleratorTypes/{name}",
                self.get_accelerator_type,
                "acceleratorTypes.get",
                "GetAcceleratorType",
            ),
            Route(
                "GET",
                "/{project}/global/images/family/{family}",
                self.get_image_from_family,
                "images.getFromFamily",
                "GetFromFamilyImage",
            ),
            Route("GET", "/{project}/global/images/{image}", self.get_image, "images.get", "GetImage"),
        ]

    async def list_operations(self, call: Call) -> dict[str, Any]:
        """List the operations of a zone, including the system's own."""
        found = self._operations.in_zone(call.project, call.zone)
        return _list(call, "operation", f"zones/{call.zone}/operations", found, compute_v1.Operation)

    async def get_operation(self, call: Call) -> dict[str, Any]:
        """Return one operation as it is now."""
        return self._operations.get(call.project, call.zone, call.path["operation"]).resource

    async def wait_operation(self, call: Call) -> dict[str, Any]:
        """Return one operation once it is DONE, or as it is after two minutes."""
        operation = self._operations.get(call.project, call.zone, call.path["operation"])
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await operation.finished.wait()
        except TimeoutError:
            pass
        return operation.resource

    async def get_project(self, call: Call) -> dict[str, Any]:
        """Return the project."""
        project = call.project
        limits = self._faults.limits(project)
        return {
            "kind": "compute#project",
            "id": str(catalog.project_number(project)),
            "creationTimestamp": catalog.CREATED,
            "name": project,
            "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "AAAAAAAAAAA="},
            "quotas": quota_resources(None, self._fleet.inventory.charged(project), limits),
            "defaultServiceAccount": f"{catalog.project_number(project)}-compute@developer.gserviceaccount.com",
            "defaultNetworkTier": "PREMIUM",
            "selfLink": self_link(f"projects/{project}"),
        }

    async def list_zones(self, call: Call) -> dict[str, Any]:
        """List all zones."""
        found = [catalog.zone_resource(call.project, zone) for zone in catalog.ZONES]
        return _list(call, "zone", "zones", found, compute_v1.Zone)

    async def get_zone(self, call: Call) -> dict[str, Any]:
        """Return one zone."""
        return catalog.zone_resource(call.project, call.zone)

    async def list_regions(self, call: Call) -> dict[str, Any]:
        """List all regions, with their quotas."""
        found = [self._region(call.project, region) for region in catalog.REGIONS]
        return _list(call, "region", "regions", found, compute_v1.Region)

    async def get_region(self, call: Call) -> dict[str, Any]:
        """Return one region, with its quotas."""
        return self._region(call.project, call.path["region"])

    async def list_machine_types(self, call: Call) -> dict[str, Any]:
        """List the machine types that a zone has."""
        sold = (m for m in catalog.MACHINE_TYPES.values() if call.zone in m.zones)
        found = [catalog.machine_type_resource(call.project, call.zone, m) for m in sold]
        return _list(call, "machineType", f"zones/{call.zone}/machineTypes", found, compute_v1.MachineType)

    async def get_machine_type(self, call: Call) -> dict[str, Any]:
        """Return one machine type."""
        machine_type = _sold(call, "machineTypes", catalog.MACHINE_TYPES)
        return catalog.machine_type_resource(call.project, call.zone, machine_type)

    async def get_accelerator_type(self, call: Call) -> dict[str, Any]:
        """Return one GPU."""
        accelerator = _sold(call, "acceleratorTypes", catalog.ACCELERATORS)
        return catalog.accelerator_type_resource(call.project, call.zone, accelerator)

    async def get_image(self, call: Call) -> dict[str, Any]:
        """Return one image."""
        return self._fleet.images.get(call.project, call.path["image"]).resource()

    async def get_image_from_family(self, call: Call) -> dict[str, Any]:
        """Return the newest image of a family."""
        return self._fleet.images.from_family(call.project, call.path["family"]).resource()

    def _region(self, project: str, region: str) -> dict[str, Any]:
        quotas = quota_resources(region, self._fleet.inventory.charged(project), self._faults.limits(project))
        return catalog.region_resource(project, region, quotas)


def _sold(call: Call, kind: str, types: Mapping[str, Sold]) -> Sold:
    """Return the type that the path names, if its zone has it."""
    found = types.get(call.path["name"])
    if found is None or call.zone not in found.zones:
        raise not_found(f"projects/{call.project}/zones/{call.zone}/{kind}/{call.path['name']}")
    return found


def _list(call: Call, kind: str, path: str, found: list[dict[str, Any]], message_type: Any) -> dict[str, Any]:
    items, token = page(found, call.query, message_type)
    path = f"projects/{call.project}/{path}"
    return listing(f"compute#{kind}List", path, items, token, self_link=self_link(path))
