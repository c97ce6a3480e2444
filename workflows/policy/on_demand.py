"""Who may fall back to on-demand where spot is not to be had, and when on-demand would be the cheaper way anyway."""

from collections.abc import Iterable

from api.spot_instance_vm import OnDemandFallback
from workflows.state import Vm


def may_fall_back(vm: Vm, vms: Iterable[Vm], fallback: OnDemandFallback | None) -> bool:
    """On-demand is granted to so many VMs at once as the spec says; one that runs on spot gives its grant back."""
    if fallback is None or vm.spot_only:
        return False
    granted = [other for other in vms if other is not vm and other.holds_on_demand]
    return len(granted) < fallback.max_replicas


def dearer_than_on_demand(vms: Iterable[Vm], fallback: OnDemandFallback | None) -> str | None:
    """What to tell where a job's spot VMs, two at least, cost more than one on-demand VM, which nobody takes away.

    None where they do not, or where a price is not known.
    """
    if fallback is None or fallback.price_per_hour is None:
        return None
    reports = [vm.report for vm in vms if vm.report and not vm.gone and not vm.runs_on_demand]
    prices = [report.price for report in reports if report.price is not None]
    if len(prices) < 2 or sum(prices) <= float(fallback.price_per_hour):
        return None
    return (
        f"{len(prices)} spot VMs cost ${sum(prices):.3f} an hour, one on-demand VM ${fallback.price_per_hour}: "
        "with replicas: 1 on-demand would cost less"
    )
