"""``instances``: making, reading, changing and deleting VMs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from google.cloud import compute_v1

from sandbox.gce.blueprint import check_labels, check_metadata
from sandbox.gce.catalog import ZONES
from sandbox.gce.errors import ApiError, fingerprint_mismatch, invalid_field
from sandbox.gce.faults import Faults
from sandbox.gce.fleet import Fleet
from sandbox.gce.http import Call, Route
from sandbox.gce.instance import Instance
from sandbox.gce.links import self_link
from sandbox.gce.listing import listing, page
from sandbox.gce.operations import Operation, Operations


class InstancesApi:
    """The methods of ``instances``."""

    def __init__(self, fleet: Fleet, operations: Operations, faults: Faults) -> None:
        self._fleet = fleet
        self._operations = operations
        self._faults = faults

    def routes(self) -> list[Route]:
        """Return paths below ``projects/``."""
        many, one = "/{project}/zones/{zone}/instances", "/{project}/zones/{zone}/instances/{instance}"
        return [
            Route(
                "GET",
                "/{project}/aggregated/instances",
                self.aggregated_list,
                "instances.list",
                "AggregatedListInstances",
            ),
            Route("GET", many, self.list_instances, "instances.list", "ListInstances"),
            Route("POST", many, self.insert, "instances.create", "InsertInstance"),
            Route("GET", one, self.get, "instances.get", "GetInstance"),
            Route("DELETE", one, self.delete, "instances.delete", "DeleteInstance"),
            Route("POST", one + "/start", self.start, "instances.start", "StartInstance"),
            Route("POST", one + "/stop", self.stop, "instances.stop", "StopInstance"),
            Route("POST", one + "/setLabels", self.set_labels, "instances.setLabels", "SetLabelsInstance"),
            Route("POST", one + "/setMetadata", self.set_metadata, "instances.setMetadata", "SetMetadataInstance"),
            Route(
                "POST",
                one + "/simulateMaintenanceEvent",
                self.simulate_maintenance_event,
                "instances.simulateMaintenanceEvent",
                "SimulateMaintenanceEventInstance",
            ),
            Route(
                "GET",
                one + "/getGuestAttributes",
                self.get_guest_attributes,
                "instances.getGuestAttributes",
                "GetGuestAttributesInstance",
            ),
            Route(
                "GET",
                one + "/serialPort",
                self.get_serial_port_output,
                "instances.getSerialPortOutput",
                "GetSerialPortOutputInstance",
            ),
        ]

    async def insert(self, call: Call) -> dict[str, Any]:
        """Make a VM. A repeated request id gets the same operation."""
        body = call.message(compute_v1.Instance)
        for permission in _rights_to_create(body):
            self._faults.check_permission(permission, f"projects/{call.project}")
        self._faults.check_policy(body, call.project)
        request_id = call.request_id
        operation = self._operations.of_request(call.project, request_id)
        if operation is None:
            operation = self._fleet.insert(call.project, call.zone, body, request_id)
            self._faults.check_answer(call.project)
        return operation.resource

    async def get(self, call: Call) -> dict[str, Any]:
        """Return one VM."""
        return self._instance(call).resource

    async def list_instances(self, call: Call) -> dict[str, Any]:
        """List the VMs of a zone."""
        visible = [i.resource for i in self._visible(call.project) if i.zone == call.zone]
        items, token = page(visible, call.query, compute_v1.Instance)
        path = f"projects/{call.project}/zones/{call.zone}/instances"
        return listing("compute#instanceList", path, items, token, self_link=self_link(path))

    async def aggregated_list(self, call: Call) -> dict[str, Any]:
        """List the VMs of all zones, by zone."""
        visible = [i.resource for i in self._visible(call.project)]
        items, token = page(visible, call.query, compute_v1.Instance)
        scopes: dict[str, Any] = {f"zones/{zone}": [] for zone in ZONES}
        for item in items:
            scopes["zones/" + item["zone"].rsplit("/", 1)[-1]].append(item)
        path = f"projects/{call.project}/aggregated/instances"
        by_scope = {scope: {"instances": found} if found else _nothing(scope) for scope, found in scopes.items()}
        return listing("compute#instanceAggregatedList", path, by_scope, token, self_link=self_link(path))

    async def delete(self, call: Call) -> dict[str, Any]:
        """Delete a VM."""
        return (self._repeated(call) or self._fleet.delete(self._instance(call), call.request_id)).resource

    async def start(self, call: Call) -> dict[str, Any]:
        """Start a stopped VM."""
        return (self._repeated(call) or self._fleet.start(self._instance(call), call.request_id)).resource

    async def stop(self, call: Call) -> dict[str, Any]:
        """Stop a VM."""
        return (self._repeated(call) or self._fleet.stop(self._instance(call), call.request_id)).resource

    async def set_labels(self, call: Call) -> dict[str, Any]:
        """Replace the labels if the caller knows the current ones, by their fingerprint."""
        body = call.message(compute_v1.InstancesSetLabelsRequest)
        if repeated := self._repeated(call):
            return repeated.resource
        instance = self._instance(call)
        labels = check_labels(body.get("labels", {}))
        if body.get("labelFingerprint") != instance.resource["labelFingerprint"]:
            raise fingerprint_mismatch("Labels")
        return self._fleet.update("setLabels", instance, lambda: instance.set_labels(labels), call.request_id).resource

    async def set_metadata(self, call: Call) -> dict[str, Any]:
        """Replace the metadata if the caller knows the current ones, by their fingerprint."""
        body = call.message(compute_v1.Metadata)
        if repeated := self._repeated(call):
            return repeated.resource
        instance = self._instance(call)
        items = check_metadata(body)
        if body.get("fingerprint") != instance.resource["metadata"]["fingerprint"]:
            raise fingerprint_mismatch("Metadata")
        return self._fleet.update(
            "setMetadata", instance, lambda: instance.set_metadata(items), call.request_id
        ).resource

    async def simulate_maintenance_event(self, call: Call) -> dict[str, Any]:
        """Rehearse a maintenance event: a spot VM is preempted, as the cloud would do it."""
        repeated = self._repeated(call)
        return (repeated or self._fleet.simulate_maintenance(self._instance(call), call.request_id)).resource

    async def get_guest_attributes(self, call: Call) -> dict[str, Any]:
        """Return what the guest has published: everything below ``queryPath``, or the one value of ``variableKey``."""
        instance = self._instance(call)
        variable, query_path = call.query.get("variableKey"), call.query.get("queryPath", "")
        answer: dict[str, Any] = {
            "kind": "compute#guestAttributes",
            "selfLink": self_link(instance.target.path + "/getGuestAttributes"),
        }
        attributes = self._faults.published(instance.name, instance.zone, instance.machine.guest_attributes)
        if variable:
            if variable not in attributes:
                raise _no_guest_attribute(variable)
            return answer | {"variableKey": variable, "variableValue": attributes[variable]}
        prefix = query_path.strip("/")
        found = [
            {"namespace": key.split("/", 1)[0], "key": key.split("/", 1)[1], "value": value}
            for key, value in attributes.items()
            if not prefix or key == prefix or key.startswith(prefix + "/")
        ]
        if not found:
            raise _no_guest_attribute(query_path)
        return answer | {"queryPath": query_path, "queryValue": {"items": found}}

    async def get_serial_port_output(self, call: Call) -> dict[str, Any]:
        """Return the output of the serial port from byte ``start`` on."""
        instance = self._instance(call)
        text, port = call.query.get("start", "0"), call.query.get("port", "1")
        if not text.lstrip("-").isdecimal():
            raise invalid_field("start", text, "Must be a number.")
        if port not in {"1", "2", "3", "4"}:
            raise invalid_field("port", port, "Must be within the range: [1, 4].")
        output = instance.machine.serial_output().encode() if port == "1" else b""
        start = max(0, int(text) if int(text) >= 0 else len(output) + int(text))
        return {
            "kind": "compute#serialPortOutput",
            "contents": output[start:].decode(errors="replace"),
            "start": str(start),
            "next": str(len(output)),
            "selfLink": self_link(instance.target.path + "/serialPort"),
        }

    def _instance(self, call: Call) -> Instance:
        return self._fleet.inventory.get(call.project, call.zone, call.path["instance"])

    def _visible(self, project: str) -> list[Instance]:
        seen_from = time.monotonic() - self._faults.list_lag
        return [i for i in self._fleet.inventory.all() if i.project == project and i.made_at <= seen_from]

    def _repeated(self, call: Call) -> Operation | None:
        return self._operations.of_request(call.project, call.request_id)


def _rights_to_create(body: dict[str, Any]) -> Iterator[str]:
    """Yield the permissions that a creation needs beside ``instances.create``, by what its ``Instance`` contains.

    https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert (Authorization requires …) and
    https://cloud.google.com/compute/docs/access/iam-permissions
    """
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
    if body.get("resourcePolicies"):
        yield "compute.resourcePolicies.use"
    for interface in body.get("networkInterfaces") or []:
        yield "compute.subnetworks.use"
        if interface.get("accessConfigs"):
            yield "compute.subnetworks.useExternalIp"


def _nothing(scope: str) -> dict[str, Any]:
    return {
        "warning": {
            "code": "NO_RESULTS_ON_PAGE",
            "message": f"There are no results for scope '{scope}' on this page.",
            "data": [{"key": "scope", "value": scope}],
        }
    }


def _no_guest_attribute(key: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{key}' of type 'Guest Attribute' was not found.")
