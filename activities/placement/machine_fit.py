"""Machines on which a pod of a template can never run. Pure; a machine that is refused here will certainly never fit.

What a Node keeps for itself is estimated low: of the memory, the kernel's share and the kubelet's eviction threshold;
of the disk, the kubelet's threshold; of the CPUs nothing, as kubeadm reserves none. The pods of DaemonSets are not
counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from activities.compute import MachineType
from activities.compute.disks import disk_problem
from activities.compute.instance import disk_gb_of, disk_type_of, has_gpus_built_in
from activities.placement.demand import demand_of, format_quantity
from activities.placement.machine_labels import labels_of, unmet, unmet_terms, unsure
from activities.preflight.volumes import Claim
from api import errors, reasons
from api.market import Candidate
from api.names import GPU_RESOURCE
from api.spot_instance_vm import SpotInstanceVMSpec

Json = dict[str, Any]

MI, GI = 1024**2, 1024**3
KERNEL_SHARE = Decimal("0.015")
"""The part of a machine's memory that its page tables take: 64 bytes for each page of 4 KiB."""
EVICTION_MEMORY = 100 * MI
"""The kubelet's hard eviction threshold, which is not allocatable."""
EVICTION_DISK = Decimal("0.1")
"""The same for the boot disk, as a share of it."""


@dataclass(frozen=True)
class Misfit:
    """Why no pod of the template can run there: the condition's reason, and a message with the remedy."""

    reason: str
    message: str


def misfit(
    template: Json, claims: Iterable[Claim], spec: SpotInstanceVMSpec, candidate: Candidate, machine: MachineType
) -> Misfit | None:
    """Find the first reason why a pod of ``template`` ({metadata, spec}) can never run on such a machine.

    Raises:
        KeyError, TypeError, ValueError: the template is malformed.
    """
    if problem := disk_problem(candidate.machine_type, disk_type_of(spec.gcp, candidate)):
        return Misfit(errors.UNSUPPORTED, problem)
    pod = template.get("spec") or {}
    labels = labels_of(candidate, spec.node_labels, arm=machine.arm)
    return (
        _too_small(template, spec, candidate, machine)
        or _wrong_labels(pod, labels)
        or next((found for claim in claims if (found := _elsewhere(claim, labels))), None)
    )


def doubts(template: Json, spec: SpotInstanceVMSpec, candidate: Candidate) -> list[str]:
    """List what the template needs that other programs have to provide on the Node, which nobody knows beforehand."""
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
    """Find the first resource of which the whole machine has too little, GPUs first, because these are bought."""
    demand, offer = demand_of(template), _offer(spec, candidate, machine)
    gpus = max(demand.amounts.get(GPU_RESOURCE, Decimal(0)), Decimal(len(demand.devices)))
    amounts = {GPU_RESOURCE: gpus, **{name: each for name, each in demand.amounts.items() if name != GPU_RESOURCE}}
    for name, wanted in amounts.items():
        if name.startswith("hugepages-"):
            offer.setdefault(name, Decimal(0))
        if name in offer and wanted > offer[name]:
            return Misfit(
                reasons.TOO_SMALL,
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
    """Compute the most that a Node of this machine can offer."""
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
        reasons.LABEL_MISSING,
        f"the template's nodeSelector or nodeAffinity asks for {', '.join(told)} of a node: correct it, or add the "
        "label to nodeLabels of the SpotInstanceVM if it is one of your own",
    )


def _elsewhere(claim: Claim, labels: dict[str, str]) -> Misfit | None:
    told = unmet_terms(claim.affinity, labels) if claim.affinity else []
    if not told:
        return None
    return Misfit(
        reasons.VOLUME_ELSEWHERE,
        f"PersistentVolumeClaim {claim.name} is bound to volume {claim.volume}, which can only be reached from "
        f"{', '.join(told)}: add that zone to gcp.zones of the SpotInstanceVM, or use another claim",
    )
