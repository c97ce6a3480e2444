"""The ledger, from which the job's report is made. It is bounded, because it is part of the state."""

from datetime import datetime

from pydantic import ConfigDict

from api.model import Slim
from api.report import IncarnationRecord, VmRecord

KEPT = 200
"""How many records of each kind are kept. Of older VMs only the sums are kept."""


class Ledger(Slim):
    """The past VMs and the incarnations of one job, the newest last."""

    model_config = ConfigDict(extra="ignore")

    vms: list[VmRecord] = []
    vms_before: int = 0
    vm_hours: float = 0  # of all VMs, also those no longer kept
    gpu_hours: float = 0
    cost: float = 0
    on_demand_cost: float = 0
    without_price: int = 0
    lost_seconds: float = 0  # training that a later incarnation of the same replica had to repeat
    frozen_seconds: float = 0  # for which dumps froze a training
    incarnations: list[IncarnationRecord] = []
    incarnations_before: int = 0

    def add_vm(self, vm: VmRecord) -> None:
        """Record a VM that is gone."""
        self.sum_up(vm)
        self.vms.append(vm)
        over = len(self.vms) - KEPT
        if over > 0:
            del self.vms[:over]
            self.vms_before += over

    def sum_up(self, vm: VmRecord) -> None:
        """Add a VM that is gone to the sums."""
        hours = hours_of(vm)
        self.vm_hours += hours
        self.gpu_hours += hours * vm.gpus
        self.cost += hours * (vm.price_per_hour or 0)
        self.on_demand_cost += hours * (vm.on_demand_per_hour or 0)
        self.without_price += vm.price_per_hour is None

    def begin(self, record: IncarnationRecord) -> float | None:
        """Record an incarnation that has started.

        Return the seconds of training that it lacks of the last one of its replica, which are lost; None if there was
        no other.
        """
        before = next((each for each in reversed(self.incarnations) if each.replica == record.replica), None)
        lost = None
        if before is not None and before.reaches is not None:
            lost = max(0.0, before.reaches - record.begins_at)
            self.lost_seconds += lost
        self.incarnations.append(record)
        over = len(self.incarnations) - KEPT
        if over > 0:
            del self.incarnations[:over]
            self.incarnations_before += over
        return lost

    def end(self, replica: int, incarnation: int, at: datetime, why: str, *, reaches: float) -> None:
        """Record the end of an incarnation. The first reason counts; one that never started has no record.

        ``reaches`` are the seconds of training that it had in memory.
        """
        for number, record in enumerate(self.incarnations):
            if (record.replica, record.incarnation, record.ended_at) == (replica, incarnation, None):
                found = {"ended_at": at, "why_ended": why[:200], "reaches": reaches}
                self.incarnations[number] = record.model_copy(update=found)


def hours_of(vm: VmRecord) -> float:
    """Return the hours for which a VM existed; 0 if unknown."""
    if vm.created_at is None or vm.gone_at is None:
        return 0
    return max(0.0, (vm.gone_at - vm.created_at).total_seconds() / 3600)
