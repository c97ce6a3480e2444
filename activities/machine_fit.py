"""Can a pod of this template ever run on a machine of that kind? Pure; what is refused here is certain to never fit.

What a Node keeps for itself is assumed modestly: of the memory what the kernel takes of it and the kubelet's eviction
threshold; of the disk the kubelet's threshold; of the CPUs nothing, as kubeadm reserves none. What the pods of
DaemonSets take is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from activities.compute import MachineType
from activities.compute.disks import disk_problem
from activities.compute.instance import disk_gb_of, disk_type_of, has_gpus_built_in
from activities.fitting import demand_of, format_quantity
from activities.machine_labels import labels_of, unmet, unmet_terms, unsure
from activities.volumes import Claim
from api.market import Candidate
from api.names import GPU_RESOURCE
from api.spot_instance_vm import SpotInstanceVMSpec

Json = dict[str, Any]

MI, GI = 1024**2, 1024**3
KERNEL_SHARE = Decimal("0.015")
"""Of a machine's memory, for its page tables: 64 bytes a page of 4 KiB."""
EVICTION_MEMORY = 100 * MI
"""The kubelet's hard threshold, which is not allocatable."""
EVICTION_DISK = Decimal("0.1")
"""Of the boot disk, likewise."""

TOO_SMALL, LABEL, ELSEWHERE = "TooSmall", "LabelMissing", "VolumeElsewhere"
UNSUPPORTED, DEVICES = "Unsupported", "NoDeviceClass"
"""Reasons of the condition MachineFits, if it is False."""


@dataclass(frozen=True)
class Misfit:
    """Why no pod of the template can run there: the condition's reason, and words with the remedy."""

    reason: str
    message: str


def misfit(
    template: Json, claims: Iterable[Claim], spec: SpotInstanceVMSpec, candidate: Candidate, machine: MachineType
) -> Misfit | None:
    """Find the first reason why a pod of ``template`` ({metadata, spec}) can never run on such a machine.

    Raises:
        KeyError, TypeError, ValueError: the template is none.
    """
    if problem := disk_problem(candidate.machine_type, disk_type_of(spec.gcp, candidate)):
        return Misfit(UNSUPPORTED, problem)
    pod = template.get("spec") or {}
    labels = labels_of(candidate, spec.node_labels, arm=machine.arm)
    return (
        _too_small(template, spec, candidate, machine)
        or _wrong_labels(pod, labels)
        or next((found for claim in claims if (found := _elsewhere(claim, labels))), None)
    )


def doubts(template: Json, spec: SpotInstanceVMSpec, candidate: Candidate) -> list[str]:
    """List what the template needs that others have to bring to the Node; nobody knows whether they will."""
    pod = template.get("spec") or {}
    labels = labels_of(candidate, spec.node_labels)
    known = {GPU_RESOURCE, "cpu", "memory", "ephemeral-storage"}
    devices = sorted(set(demand_of(template).amounts) - known)
    return [
        *(f"the label {key} has to be set by feature discovery or a driver" for key in unsure(pod, labels)),
        *(f"{name} has to be offered by a device plugin" for name in devices if _of_a_plugin(name)),
    ]


def _of_a_plugin(resource: str) -> bool:
    return "/" in resource


def _too_small(template: Json, spec: SpotInstanceVMSpec, candidate: Candidate, machine: MachineType) -> Misfit | None:
    """Find the first resource of which the whole machine has too little; GPUs first, as they are what is bought."""
    demand, offer = demand_of(template), _offer(spec, candidate, machine)
    gpus = max(demand.amounts.get(GPU_RESOURCE, Decimal(0)), Decimal(len(demand.devices)))
    amounts = {GPU_RESOURCE: gpus, **{name: each for name, each in demand.amounts.items() if name != GPU_RESOURCE}}
    for name, wanted in amounts.items():
        if name.startswith("hugepages-"):
            offer.setdefault(name, Decimal(0))
        if name in offer and wanted > offer[name]:
            return Misfit(
                TOO_SMALL,
                f"the template requests {_amount(name, wanted)} of {name} and such a machine offers "
                f"{_amount(name, offer[name])}: {_REMEDIES.get(name, 'request less')}",
            )
    return None


_REMEDIES = {
    GPU_RESOURCE: "raise gpu.count of the SpotInstanceVM (with a gcp.machineType that has so many), or request fewer",
    "cpu": "name a larger gcp.machineType in the SpotInstanceVM, or request less",
    "memory": "name a larger gcp.machineType in the SpotInstanceVM, or request less",
    "ephemeral-storage": "raise gcp.diskSizeGB of the SpotInstanceVM, or request less",
}


def _offer(spec: SpotInstanceVMSpec, candidate: Candidate, machine: MachineType) -> dict[str, Decimal]:
    """Compute what a Node of this machine can give at most."""
    built_in = has_gpus_built_in(candidate.machine_type)
    gpus = sum(machine.gpus.values()) if built_in else candidate.gpu.count if candidate.gpu else 0
    memory = Decimal(machine.memory_mb * MI)
    return {
        GPU_RESOURCE: Decimal(gpus),
        "cpu": Decimal(machine.cpus),
        "memory": memory * (1 - KERNEL_SHARE) - EVICTION_MEMORY,
        "ephemeral-storage": Decimal(disk_gb_of(spec.gcp, candidate) * GI) * (1 - EVICTION_DISK),
    }


def _amount(name: str, amount: Decimal) -> str:
    if name in {"memory", "ephemeral-storage"}:
        return f"{amount / GI:.1f}Gi"
    return format_quantity(amount)


def _wrong_labels(pod: Json, labels: dict[str, str]) -> Misfit | None:
    told = unmet(pod, labels)
    if not told:
        return None
    return Misfit(
        LABEL,
        f"the template's nodeSelector or nodeAffinity asks for {', '.join(told)} of a node: correct it, or add the "
        "label to nodeLabels of the SpotInstanceVM if it is one of your own",
    )


def _elsewhere(claim: Claim, labels: dict[str, str]) -> Misfit | None:
    told = unmet_terms(claim.affinity, labels) if claim.affinity else []
    if not told:
        return None
    return Misfit(
        ELSEWHERE,
        f"PersistentVolumeClaim {claim.name} is bound to volume {claim.volume}, which can only be reached from "
        f"{', '.join(told)}: add that zone to gcp.zones of the SpotInstanceVM, or use another claim",
    )
