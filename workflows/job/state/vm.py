"""What a job knows about a VM that was bought for it."""

from datetime import datetime

from api.common import LocalReference
from api.messages import VmReport
from api.prices import gpus_of, on_demand_price, price_of
from api.report import VmRecord
from api.spot_instance_vm import OnDemandFallback, SshAccess
from workflows.common.stored import Mutable


class Vm(Mutable):
    """A VM that was or will be bought for this job, until it is confirmed gone."""

    key: str
    replica: int
    report: VmReport | None = None
    existed_at: datetime | None = None  # when it was first reported to exist
    released: str | None = None
    on_demand: bool = False  # it may fall back to on-demand
    spot_only: bool = False  # it is meant for a spot return
    outdated: bool = False  # the SpotInstanceVM was edited while this VM was still to be bought
    ssh_user: str | None = None  # the user with which it was bought; None before that
    ssh_key: LocalReference | None = None  # of that user; None if it is the installation's
    ssh_access: SshAccess = "Metadata"  # of that user

    @property
    def to_be_bought(self) -> bool:
        """True if nothing of it exists yet, as far as it has reported."""
        return not self.released and (self.report is None or self.report.stage == "Creating")

    @property
    def superseded(self) -> bool:
        """True if nothing of it exists yet, and the spec by which it would be bought was edited."""
        return self.outdated and self.to_be_bought

    @property
    def ready(self) -> bool:
        """True if its Node is Ready and it takes a replica."""
        return self.report is not None and self.report.stage == "Ready"

    @property
    def reports(self) -> int:
        """Return the number of its last report; 0 before the first."""
        return self.report.number if self.report is not None else 0

    def record(self, fallback: OnDemandFallback | None) -> VmRecord | None:
        """Return the VM's entry in the job's report; None if it never existed. ``fallback`` may know a price."""
        report = self.report
        if report is None or report.vm_name is None or self.existed_at is None:
            return None
        return VmRecord(
            name=report.vm_name,
            replica=self.replica,
            zone=report.zone,
            machine_type=report.candidate.machine_type if report.candidate else None,
            provisioning=report.candidate.provisioning if report.candidate else None,
            price_per_hour=price_of(report.candidate, report.price, fallback) if report.candidate else report.price,
            on_demand_per_hour=on_demand_price(report.candidate, fallback) if report.candidate else None,
            gpus=gpus_of(report.candidate) if report.candidate else 0,
            created_at=self.existed_at,
            gone_at=report.at if self.gone else None,
            why_gone=(self.released or report.reason)[:200] if self.gone else "",
        )

    @property
    def runs_on_demand(self) -> bool:
        """True if it was bought, or is being bought, on-demand."""
        candidate = self.report.candidate if self.report else None
        return candidate is not None and candidate.provisioning == "OnDemand"

    @property
    def counts_as_on_demand(self) -> bool:
        """True if it is on-demand or may still become so, and therefore counts towards ``maxReplicas``."""
        if self.gone or self.released:
            return False
        return self.runs_on_demand or (self.on_demand and self.to_be_bought)

    @property
    def failed(self) -> bool:
        """True if it is of no more use: it has had a notice, was lost, or is being deleted."""
        return self.report is not None and self.report.stage in {"Noticed", "Lost", "Deleting", "Gone"}

    @property
    def dead(self) -> bool:
        """True if the machine is confirmed not to run."""
        return self.report is not None and (self.report.dead or self.report.stage == "Gone")

    @property
    def gone(self) -> bool:
        """True if nothing is left of it."""
        return self.report is not None and self.report.stage == "Gone"
