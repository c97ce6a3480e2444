"""The placement of a VM and how it may be preempted: machine type, GPUs, CPU platform and scheduling of an insert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.gce import catalog
from sandbox.gce.errors import ApiError, invalid_field, not_compatible, required_field
from sandbox.gce.links import resource_path, self_link

_NOT_EMULATED = ("maxRunDuration", "terminationTime", "gracefulShutdown", "onInstanceStopAction", "nodeAffinities")
"""Features that would change a VM's life and that this emulator lacks: it refuses them instead of ignoring them."""


@dataclass(frozen=True)
class Placement:
    """What an insert asks for, checked; ``scheduling`` includes the service's defaults."""

    machine_type: catalog.MachineType
    gpu_type: str | None
    gpu_count: int
    scheduling: dict[str, Any]

    @property
    def spot(self) -> bool:
        """True if the cloud may preempt the VM."""
        return bool(self.scheduling["provisioningModel"] == "SPOT")

    @property
    def accelerators(self) -> str:
        """The GPUs in the service's short form, ``nvidia-tesla-t4:1``; empty if there are none."""
        return f"{self.gpu_type}:{self.gpu_count}" if self.gpu_type else ""

    def accelerator_resources(self, project: str, zone: str) -> list[dict[str, Any]]:
        """Return ``guestAccelerators`` as the instance shows them, including built-in ones."""
        if not self.gpu_type:
            return []
        link = self_link(f"projects/{project}/zones/{zone}/acceleratorTypes/{self.gpu_type}")
        return [{"acceleratorType": link, "acceleratorCount": self.gpu_count}]


def check_placement(body: dict[str, Any], project: str, zone: str) -> Placement:
    """Return the placement that an insert's body asks for.

    Raises:
        ApiError: 400; it names what does not exist or does not go together.
    """
    machine_type = _machine_type(body.get("machineType", ""), project, zone)
    gpu_type, gpu_count = _accelerators(body.get("guestAccelerators", []), machine_type, project, zone)
    if (platform := body.get("minCpuPlatform")) and platform not in catalog.CPU_PLATFORMS:
        raise invalid_field("resource.minCpuPlatform", platform, f"Invalid CPU platform for zone {zone}.")
    scheduling = _scheduling(body.get("scheduling", {}), has_gpu=gpu_type is not None)
    return Placement(machine_type, gpu_type, gpu_count, scheduling)


def _machine_type(reference: str, project: str, zone: str) -> catalog.MachineType:
    field = "resource.machineType"
    if not reference:
        raise required_field(field)
    match (resource_path(reference, project) or "").split("/"):
        case ["projects", _, "zones", where, "machineTypes", name]:
            machine_type = catalog.MACHINE_TYPES.get(name)
            if where != zone:
                raise invalid_field(field, reference, f"The machine type must be in the instance's zone {zone}.")
            if machine_type is None or zone not in machine_type.zones:
                raise invalid_field(
                    field, reference, f"Machine type with name '{name}' does not exist in zone '{zone}'."
                )
            return machine_type
    raise invalid_field(field, reference, "The URL is malformed.")


def _accelerators(
    requested: list[dict[str, Any]], machine_type: catalog.MachineType, project: str, zone: str
) -> tuple[str | None, int]:
    """Return the type and the number of the GPUs: those built in, or those attached to an N1."""
    built_in = (machine_type.gpu, machine_type.gpu_count)
    if not requested:
        return built_in
    field = "resource.guestAccelerators"
    if len(requested) > 1:
        raise invalid_field(field, "", "Only one type of accelerator may be attached to an instance.")
    reference, count = requested[0].get("acceleratorType", ""), requested[0].get("acceleratorCount", 0)
    accelerator = _accelerator(f"{field}[0].acceleratorType", reference, project, zone)
    if machine_type.gpu:
        if (accelerator.name, count) != built_in:
            raise not_compatible(machine_type.name, f"{accelerator.name}:{count}")
        return built_in
    if machine_type.family != "n1" or not accelerator.cpus_by_count:
        raise not_compatible(machine_type.name, accelerator.name)
    if count not in accelerator.cpus_by_count:
        allowed = ", ".join(map(str, accelerator.cpus_by_count))
        raise invalid_field(
            f"{field}[0].acceleratorCount", count, f"Number of {accelerator.name} cards must be one of [{allowed}]."
        )
    if machine_type.cpus > accelerator.cpus_by_count[count]:
        raise not_compatible(machine_type.name, f"{accelerator.name}:{count}")
    return accelerator.name, count


def _accelerator(field: str, reference: str, project: str, zone: str) -> catalog.Accelerator:
    match (resource_path(reference, project) or "").split("/"):
        case ["projects", _, "zones", where, "acceleratorTypes", name]:
            accelerator = catalog.ACCELERATORS.get(name)
            if where != zone or accelerator is None or zone not in accelerator.zones:
                path = f"projects/{project}/zones/{where}/acceleratorTypes/{name}"
                raise ApiError(404, "notFound", f"The resource '{path}' was not found")
            return accelerator
    raise invalid_field(field, reference, "The URL is malformed.")


def _scheduling(requested: dict[str, Any], *, has_gpu: bool) -> dict[str, Any]:
    """Return ``scheduling`` with the service's defaults, after checking the rules for spot VMs and GPUs."""
    for feature in _NOT_EMULATED:
        if feature in requested:
            raise invalid_field(f"resource.scheduling.{feature}", requested[feature], "Not emulated by the sandbox.")
    scheduling = dict(requested)
    model = scheduling.setdefault("provisioningModel", "SPOT" if scheduling.get("preemptible") else "STANDARD")
    if model not in {"SPOT", "STANDARD"}:
        raise invalid_field("resource.scheduling.provisioningModel", model, "Not emulated by the sandbox.")
    spot = model == "SPOT"
    if spot:
        _check_spot(scheduling)
    elif scheduling.get("preemptible"):
        raise invalid_field("resource.scheduling.preemptible", "true", "Standard VMs cannot be preemptible.")
    elif "instanceTerminationAction" in scheduling or "preemptionNoticeDuration" in scheduling:
        raise invalid_field(
            "resource.scheduling.instanceTerminationAction",
            scheduling.get("instanceTerminationAction", ""),
            "You cannot specify a termination action for a VM instance that has the standard provisioning model.",
        )
    scheduling.setdefault("preemptible", spot)
    scheduling.setdefault("automaticRestart", not spot)
    maintenance = scheduling.setdefault("onHostMaintenance", "TERMINATE" if spot else "MIGRATE")
    if has_gpu and maintenance != "TERMINATE":
        raise ApiError(400, "badRequest", "Instances with guest accelerators do not support live migration.")
    if spot and maintenance != "TERMINATE":
        raise invalid_field(
            "resource.scheduling.onHostMaintenance", maintenance, "Spot VMs must terminate on host maintenance."
        )
    return scheduling


def _check_spot(scheduling: dict[str, Any]) -> None:
    if scheduling.get("automaticRestart"):
        raise invalid_field(
            "resource.scheduling.preemptible",
            "true",
            "Scheduling must have preemptible be false when AutomaticRestart is true.",
        )
    action = scheduling.setdefault("instanceTerminationAction", "STOP")
    if action not in {"STOP", "DELETE"}:
        raise invalid_field("resource.scheduling.instanceTerminationAction", action, "Must be one of [DELETE, STOP].")
    if (notice := scheduling.get("preemptionNoticeDuration")) is not None:
        seconds = notice.get("seconds", "0")
        if seconds not in {"0", "120"} or notice.get("nanos"):
            raise invalid_field("resource.scheduling.preemptionNoticeDuration", seconds, "Must be 0 or 120 seconds.")
