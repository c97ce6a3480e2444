"""Which VMs may fall back to on-demand if no spot VM is available, and whether on-demand would be cheaper anyway."""

from collections.abc import Iterable

from api.spot_instance_vm import OnDemandFallback
from workflows.job.state.vm import Vm


def may_fall_back(vm: Vm, vms: Iterable[Vm], fallback: OnDemandFallback | None) -> bool:
    """True if a VM may be bought on-demand: fewer others than ``maxReplicas`` are, or may still become so."""
    if fallback is None or vm.spot_only:
        return False
    granted = [other for other in vms if other is not vm and other.counts_as_on_demand]
    return len(granted) < fallback.max_replicas


def dearer_than_on_demand(vms: Iterable[Vm], fallback: OnDemandFallback | None) -> str | None:
    """Say so if two or more spot VMs of a job cost more than one on-demand VM, which nobody preempts.

    None if they do not, or if a price is unknown.
    """
    if fallback is None or fallback.price_per_hour is None:
        return None
    reports = [vm.report for vm in vms if vm.report and not vm.gone and not vm.runs_on_demand]
    prices = [report.price for report in reports if report.price is not None]
    if len(prices) < 2 or sum(prices) <= float(fallback.price_per_hour):
        return None
    return (
        f"{len(prices)} spot VMs cost ${sum(prices):.3f} an hour, one on-demand VM ${fallback.price_per_hour}: "
        "on-demand with replicas: 1 would cost less"
    )
