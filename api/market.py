"""The market's vocabulary: what can be bought, what is known of it, and which of it to try next."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from api.common import SecretReference
from api.formats import DISK_TYPE, MACHINE_TYPE
from api.model import Model, Moment
from api.names import region_of
from api.spot_instance_vm import Gpu
from api.timings import Timings

ProvisioningModel = Literal["Spot", "OnDemand"]

PREEMPTED = "compute.instances.preempted"
"""The type of the cloud's operations that preempt a machine, and the source of the notices that come from them."""

OPERATION_LAG = timedelta(minutes=2)
"""An operation may appear in the cloud's list this much later than its own time stamp."""


class Candidate(Model):
    """One way to buy a VM."""

    zone: str
    machine_type: Annotated[str, MACHINE_TYPE]
    gpu: Gpu | None = None
    provisioning: ProvisioningModel = "Spot"
    disk_type: Annotated[str, DISK_TYPE] | None = None  # None: the spec's own
    disk_size_gb: int | None = None

    @property
    def region(self) -> str:
        """Derive the region: ``us-central1-a`` gives ``us-central1``."""
        return region_of(self.zone)

    @property
    def key(self) -> str:
        """Name it for the memory of its capacity, and for people."""
        gpus = f" + {self.gpu.count} x {self.gpu.type}" if self.gpu else ""
        return f"{self.machine_type}{gpus} in {self.zone} ({self.provisioning})"

    @property
    def label(self) -> str:
        """Distinguish it from every other candidate of a spec: by its disk as well, if that is not the spec's own."""
        size = f"{self.disk_size_gb} GB" if self.disk_size_gb else ""
        disk = " ".join(part for part in (self.disk_type or "", size) if part)
        return f"{self.key} with disk {disk}" if disk else self.key


class VmRequest(Model):
    """What a job requires of a VM that is still to be bought; sent again with each ``ensure``."""

    on_demand: bool = False  # it may fall back to on-demand, as far as the spec says
    avoid_zones: list[str] = []  # zones of the job's other replicas: preemptions in one zone come together
    same_gpu: bool = False  # a checkpoint image is to be restored: only the spec's own GPU fits
    image_gpu: Gpu | None = None  # and only this one, on which it was dumped
    unfit: list[str] = []  # labels of candidates on which the job's pods can never run
    # The only zone that counts, because the other machines of a gang are there; None: any.
    zone: str | None = Field(default=None, exclude_if=lambda zone: zone is None)


class MarketStart(Model):
    """Input of the workflow ``SpotMarket``, which runs once for each project."""

    project: str
    timings: Timings = Timings()
    state: dict[str, Any] | None = None  # the previous run's, after continue-as-new; the workflow's own


class Choose(Model):
    """Ask which of these to try next."""

    asker: str  # the VM's key
    replica: int
    candidates: list[Candidate]
    avoid_zones: list[str] = []
    namespace: str
    credentials: SecretReference | None = None
    timings: Timings | None = None  # the installation's, as the asking workflow has them

    @property
    def identity(self) -> str:
        """Name the owner of the credentials: what one may not do, another may."""
        return identity_of(self.credentials, self.namespace)


def identity_of(credentials: SecretReference | None, namespace: str) -> str:
    """Name the owner of these credentials for people."""
    return f"{credentials.namespace or namespace}/{credentials.name}" if credentials else "the worker's own identity"


class Considered(Model):
    """A candidate with what spoke for and against it. ``cost`` in USD per useful hour, None if no price is known."""

    candidate: Candidate
    cost: float | None = None
    price: float | None = None  # USD per hour
    losses_per_hour: float = 0
    rests_until: Moment | None = None
    why: str = ""


class Choice(Model):
    """``candidate`` is None if all of them are in cooldown; then ask again at ``until``."""

    candidate: Candidate | None
    price: float | None = None
    reason: str
    blocked_by: str = ""  # one of api.errors, if all of them are in cooldown
    until: Moment | None = None
    considered: list[Considered] = []


class MarketNews(Model):
    """What became of a VM or of an attempt to buy it. ``kind``: a reason of ``api.errors``, Bought or Ended."""

    vm: str  # its key
    kind: str
    candidate: Candidate
    name: str = ""  # the instance's
    message: str = ""
    scope: str = ""  # the quota's metric, or the permission
    identity: str = ""
    namespace: str = ""
    credentials: SecretReference | None = None
    lost: bool = False  # with Ended: the cloud preempted it
    at: Moment
    timings: Timings | None = None  # the installation's, as the VM's workflow has them


class Deal(Model):
    """What several VMs ask a market and report to it at the same moment. The news count before the questions."""

    news: list[MarketNews] = []
    questions: list[Choose] = []
    patient: bool = False  # wait a while for prices that are not known yet
    timings: Timings | None = None  # the installation's


class Dealt(Model):
    """A choice for each question. None: it is worth waiting for prices, so ask again with patience."""

    choices: list[Choice | None]


class HazardQuestion(Model):
    """Ask how often machines like these are lost. They are VM keys; those that the market has not sold are ignored."""

    vms: list[str] = []
    at: Moment


class Hazard(Model):
    """The loss rate to expect of a machine; None if there is no market yet."""

    losses_per_hour: float | None


class Price(Model):
    """The spot list price of a machine type with its GPUs, in USD per hour; None if the cloud states none."""

    usd_per_hour: float | None


class PreemptedVm(Model):
    """An instance that the cloud reports as preempted."""

    name: str
    zone: str
    operation: str
    at: Moment
