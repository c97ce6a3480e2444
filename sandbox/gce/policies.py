"""Resource policies by which VMs are placed near to each other: the only kind of policy that this emulator has."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sandbox.gce import catalog
from sandbox.gce.errors import ApiError, already_exists, invalid_field, not_found
from sandbox.gce.links import resource_path, self_link
from sandbox.gce.operations import numeric_id, timestamp

CREATE_SECONDS = 2.0
"""How long a new policy is CREATING, in emulated seconds."""

PLACED_APART = frozenset({"n1", "e2"})
"""The machine families of the catalogue that cannot be placed compactly."""


class Policies:
    """The policies of all projects, by project, region and name."""

    def __init__(self, scaled: Callable[[float], float]) -> None:
        self._scaled = scaled
        self._policies: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._ready_at: dict[tuple[str, str, str], float] = {}

    def insert(self, project: str, region: str, body: dict[str, Any]) -> dict[str, Any]:
        """Begin to make a policy, and return it.

        Raises:
            ApiError: it is no placement policy (400), or the name is taken (409).
        """
        name, placement = body.get("name", ""), body.get("groupPlacementPolicy")
        path = f"projects/{project}/regions/{region}/resourcePolicies/{name}"
        if placement is None or placement.get("collocation") != "COLLOCATED" or len(placement) > 1:
            raise invalid_field("resource.groupPlacementPolicy", placement, "Not emulated by the sandbox.")
        key = project, region, name
        if key in self._policies:
            raise already_exists(path)
        self._ready_at[key] = time.monotonic() + self._scaled(CREATE_SECONDS)
        self._policies[key] = {
            "kind": "compute#resourcePolicy",
            "id": str(numeric_id()),
            "creationTimestamp": timestamp(),
            "name": name,
            "description": body.get("description", ""),
            "region": self_link(f"projects/{project}/regions/{region}"),
            "groupPlacementPolicy": placement,
            "selfLink": self_link(path),
        }
        return self.get(project, region, name)

    def get(self, project: str, region: str, name: str) -> dict[str, Any]:
        """Return a policy as it is now.

        Raises:
            ApiError: 404.
        """
        key = project, region, name
        if key not in self._policies:
            raise not_found(f"projects/{project}/regions/{region}/resourcePolicies/{name}")
        status = "READY" if time.monotonic() >= self._ready_at[key] else "CREATING"
        return {**self._policies[key], "status": status}

    def of_project(self, project: str) -> list[dict[str, Any]]:
        """List the policies of a project in all regions."""
        return [self.get(*key) for key in self._policies if key[0] == project]

    def delete(self, project: str, region: str, name: str, used_by: list[str]) -> dict[str, Any]:
        """Delete a policy, and return how it was.

        Args:
            project: the project.
            region: the region.
            name: its name.
            used_by: the paths of the VMs that name it.

        Raises:
            ApiError: there is none (404), or a VM names it (400).
        """
        policy = self.get(project, region, name)
        if used_by:
            path = f"projects/{project}/regions/{region}/resourcePolicies/{name}"
            message = f"The resource_policy resource '{path}' is already being used by '{used_by[0]}'"
            raise ApiError(400, "resourceInUseByAnotherResource", message)
        del self._policies[project, region, name]
        return policy

    def check(self, references: list[str], project: str, zone: str, machine_type: catalog.MachineType) -> list[str]:
        """Return the links of the policies that an insert names, of which there may be one.

        Raises:
            ApiError: it does not exist (404), or cannot be used for this VM (400).
        """
        field = "resource.resourcePolicies"
        if len(references) > 1:
            raise invalid_field(field, "", "At most one placement policy may be attached to an instance.")
        links = []
        for reference in references:
            match (resource_path(reference, project) or "").split("/"):
                case ["projects", owner, "regions", region, "resourcePolicies", name]:
                    if (owner, region) != (project, catalog.region_of(zone)):
                        raise invalid_field(field, reference, "The policy must be in the instance's region.")
                    if self.get(project, region, name)["status"] != "READY":
                        raise ApiError(400, "resourceNotReady", f"The resource '{reference}' is not ready")
                    links.append(self_link(f"projects/{project}/regions/{region}/resourcePolicies/{name}"))
                case _:
                    raise invalid_field(field, reference, "The URL is malformed.")
        if links and machine_type.family in PLACED_APART:
            message = f"Placement policy is not applicable to machine type {machine_type.name}."
            raise ApiError(400, "invalid", message)
        return links
