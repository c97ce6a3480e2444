"""``resourcePolicies``: making, reading and deleting the placement policies of a region."""

from __future__ import annotations

from typing import Any

from google.cloud import compute_v1

from sandbox.gce.catalog import REGIONS
from sandbox.gce.fleet import Fleet
from sandbox.gce.http import Call, Route
from sandbox.gce.links import leaf, self_link
from sandbox.gce.listing import listing, page
from sandbox.gce.operations import numeric_id, timestamp


class PoliciesApi:
    """The methods of ``resourcePolicies``. Their operations cannot be read: a policy's own status says the same."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._policies = fleet.policies

    def routes(self) -> list[Route]:
        """Return paths below ``projects/``."""
        many, everywhere = "/{project}/regions/{region}/resourcePolicies", "/{project}/aggregated/resourcePolicies"
        one = many + "/{policy}"
        return [
            Route("GET", everywhere, self.list_all, "resourcePolicies.list", "AggregatedListResourcePolicies"),
            Route("GET", many, self.list_region, "resourcePolicies.list", "ListResourcePolicies"),
            Route("POST", many, self.insert, "resourcePolicies.create", "InsertResourcePolicy"),
            Route("GET", one, self.get, "resourcePolicies.get", "GetResourcePolicy"),
            Route("DELETE", one, self.delete, "resourcePolicies.delete", "DeleteResourcePolicy"),
        ]

    async def insert(self, call: Call) -> dict[str, Any]:
        """Make a policy."""
        policy = self._policies.insert(call.project, call.path["region"], call.message(compute_v1.ResourcePolicy))
        return _operation("insert", policy)

    async def get(self, call: Call) -> dict[str, Any]:
        """Return one policy."""
        return self._policies.get(call.project, call.path["region"], call.path["policy"])

    async def delete(self, call: Call) -> dict[str, Any]:
        """Delete a policy that no VM names."""
        name, region = call.path["policy"], call.path["region"]
        link = self_link(f"projects/{call.project}/regions/{region}/resourcePolicies/{name}")
        vms = [vm for vm in self._fleet.inventory.all() if link in vm.resource.get("resourcePolicies", [])]
        return _operation("delete", self._policies.delete(call.project, region, name, [vm.target.path for vm in vms]))

    async def list_region(self, call: Call) -> dict[str, Any]:
        """List the policies of a region."""
        found = [one for one in self._policies.of_project(call.project) if leaf(one["region"]) == call.path["region"]]
        items, token = page(found, call.query, compute_v1.ResourcePolicy)
        path = f"projects/{call.project}/regions/{call.path['region']}/resourcePolicies"
        return listing("compute#resourcePolicyList", path, items, token, self_link=self_link(path))

    async def list_all(self, call: Call) -> dict[str, Any]:
        """List the policies of all regions, by region."""
        items, token = page(self._policies.of_project(call.project), call.query, compute_v1.ResourcePolicy)
        scopes: dict[str, Any] = {
            f"regions/{region}": {"resourcePolicies": [one for one in items if leaf(one["region"]) == region]}
            for region in REGIONS
        }
        path = f"projects/{call.project}/aggregated/resourcePolicies"
        return listing("compute#resourcePolicyAggregatedList", path, scopes, token, self_link=self_link(path))


def _operation(kind: str, policy: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "compute#operation",
        "id": str(numeric_id()),
        "name": f"operation-{numeric_id()}",
        "region": policy["region"],
        "operationType": kind,
        "targetLink": policy["selfLink"],
        "targetId": policy["id"],
        "status": "RUNNING",
        "progress": 0,
        "insertTime": timestamp(),
    }
