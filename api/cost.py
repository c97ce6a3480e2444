"""What a job's VMs cost: estimates in USD by list prices, from when a VM was first heard of until it was gone.

The status has sums of the VMs that are gone, and the times and prices of those that exist. So whoever reads it can
compute what a job has cost until now, and a job of which nothing changes writes nothing.
"""

from datetime import datetime
from typing import Self

from pydantic import Field

from api.model import Model, Moment

HOUR = 3600.0


class MachineCost(Model):
    """A VM that exists and is paid for."""

    name: str = Field(description="the VM")
    since: Moment = Field(description="when it was first reported to exist")
    gpus: int = Field(default=0, description="its GPUs")
    price_per_hour: float | None = Field(default=None, description="in USD, when it was bought; absent if not known")
    on_demand_per_hour: float | None = Field(default=None, description="in USD, of the same machine on-demand")


class Sums(Model):
    """Sums over VMs."""

    usd: float = 0
    on_demand_usd: float = 0
    vm_hours: float = 0
    gpu_hours: float = 0


class CostStatus(Model):
    """What a job has cost: the sums are of the VMs that are gone, and ``machines`` are those that exist."""

    usd: float = Field(default=0, description="estimated cost of the VMs that are gone, by list prices")
    on_demand_usd: float = Field(default=0, description="what the same VMs would have cost on-demand")
    vm_hours: float = Field(default=0, description="of the VMs that are gone")
    gpu_hours: float = Field(default=0, description="of the VMs that are gone")
    vms_without_price: int = Field(default=0, description="VMs of which no price is known, which usd leaves out")
    machines: list[MachineCost] = Field(default=[], description="the VMs that exist now")
    lost_seconds: float = Field(default=0, description="training that was lost with machines and had to be repeated")
    frozen_seconds: float = Field(default=0, description="for which checkpoints of images froze the training")

    def until(self, now: datetime) -> Sums:
        """Sum up all VMs, those that exist until ``now``."""
        hours = [(vm, max(0.0, (now - vm.since).total_seconds()) / HOUR) for vm in self.machines]
        return Sums(
            usd=self.usd + sum(each * (vm.price_per_hour or 0) for vm, each in hours),
            on_demand_usd=self.on_demand_usd + sum(each * (vm.on_demand_per_hour or 0) for vm, each in hours),
            vm_hours=self.vm_hours + sum(each for _, each in hours),
            gpu_hours=self.gpu_hours + sum(each * vm.gpus for vm, each in hours),
        )

    @property
    def per_hour(self) -> float:
        """Return what the VMs that exist cost in an hour, in USD."""
        return sum(vm.price_per_hour or 0 for vm in self.machines)

    @property
    def is_unknown(self) -> bool:
        """True if there were VMs, and no price of any is known."""
        priced = [vm for vm in self.machines if vm.price_per_hour is not None]
        return not self.usd and not priced and bool(self.vms_without_price or self.machines)


class CostRecord(Model):
    """What a job has cost until a moment, as it is kept after the job's object is gone."""

    job: str
    job_id: str
    ended: str  # Completed, Failed, Deleted, Cancelled, Gone
    started_at: Moment | None = None
    ended_at: Moment
    usd: float
    on_demand_usd: float
    vm_hours: float
    gpu_hours: float
    vms_without_price: int = 0
    lost_seconds: float = 0
    frozen_seconds: float = 0

    @classmethod
    def of(
        cls, cost: CostStatus, *, job: str, job_id: str, ended: str, started_at: datetime | None, until: datetime
    ) -> Self:
        """Reckon what a job has cost ``until`` its end, or the present time."""
        sums = cost.until(until)
        return cls(
            job=job,
            job_id=job_id,
            ended=ended,
            started_at=started_at,
            ended_at=until,
            usd=round(sums.usd, 4),
            on_demand_usd=round(sums.on_demand_usd, 4),
            vm_hours=round(sums.vm_hours, 3),
            gpu_hours=round(sums.gpu_hours, 3),
            vms_without_price=cost.vms_without_price + len([vm for vm in cost.machines if vm.price_per_hour is None]),
            lost_seconds=cost.lost_seconds,
            frozen_seconds=cost.frozen_seconds,
        )


def told(cost: CostStatus, now: datetime) -> str:
    """Say in a few characters what a job has cost until now; ``?`` if no price is known."""
    return "?" if cost.is_unknown else f"${cost.until(now).usd:.2f}"
