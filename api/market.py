"""The market's vocabulary: what can be bought, what is known of it, and which of it is to be tried next."""

from datetime import datetime
from typing import Annotated, Any, Literal

from api.common import SecretReference
from api.formats import DISK_TYPE, MACHINE_TYPE
from api.model import Model
from api.spot_instance_vm import Gpu
from api.timings import Timings

ProvisioningModel = Literal["Spot", "OnDemand"]


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
        """``us-central1-a`` → ``us-central1``."""
        return self.zone.rpartition("-")[0]

    @property
    def key(self) -> str:
        """What its capacity is remembered by; also how people read it."""
        gpus = f" + {self.gpu.count} x {self.gpu.type}" if self.gpu else ""
        return f"{self.machine_type}{gpus} in {self.zone} ({self.provisioning})"

    @property
    def label(self) -> str:
        """What tells it from every other candidate of a spec: its disk as well, if that is not the spec's own."""
        size = f"{self.disk_size_gb} GB" if self.disk_size_gb else ""
        disk = " ".join(part for part in (self.disk_type or "", size) if part)
        return f"{self.key} with disk {disk}" if disk else self.key


class VmWish(Model):
    """What a job wants of a VM that is still to be bought; told again with each ``ensure``."""

    on_demand: bool = False  # it may fall back to on-demand, as far as the spec says
    avoid_zones: list[str] = []  # of the job's other replicas: preemptions in one zone come together
    same_gpu: bool = False  # a process image is to be restored: no other GPU than the spec's own
    image_gpu: Gpu | None = None  # and than this one, which it was dumped on
    unfit: list[str] = []  # labels of candidates that the job's pods can never run on


class MarketStart(Model):
    """Input of the workflow ``SpotMarket``: one a project."""

    project: str
    timings: Timings = Timings()
    state: dict[str, Any] | None = None  # of the run before, after continue-as-new; the workflow's own


class Choose(Model):
    """Which of these is to be tried next?"""

    asker: str  # the VM's key
    replica: int
    candidates: list[Candidate]
    avoid_zones: list[str] = []
    namespace: str
    credentials: SecretReference | None = None
    timings: Timings | None = None  # of the installation, as the asker's life has them

    @property
    def identity(self) -> str:
        """Whose credentials these are: what one may not do, another may."""
        return identity_of(self.credentials, self.namespace)


def identity_of(credentials: SecretReference | None, namespace: str) -> str:
    """How people call the owner of these credentials."""
    return f"{credentials.namespace or namespace}/{credentials.name}" if credentials else "the worker's own identity"


class Considered(Model):
    """A candidate with what spoke for and against it. ``cost`` in USD per useful hour, None where no price is known."""

    candidate: Candidate
    cost: float | None = None
    price: float | None = None  # USD per hour
    losses_per_hour: float = 0
    rests_until: datetime | None = None
    why: str = ""


class Choice(Model):
    """``candidate`` is None where all of them rest; then ask again at ``until``."""

    candidate: Candidate | None
    price: float | None = None
    reason: str
    blocked_by: str = ""  # one of api.errors, where all of them rest
    until: datetime | None = None
    considered: list[Considered] = []


class MarketNews(Model):
    """What became of a VM or of an attempt to buy it. ``kind``: a reason of ``api.errors``, Bought or Ended."""

    vm: str  # its key
    kind: str
    candidate: Candidate
    name: str = ""  # of the instance
    message: str = ""
    scope: str = ""  # the quota's metric, or the permission
    identity: str = ""
    namespace: str = ""
    credentials: SecretReference | None = None
    lost: bool = False  # with Ended: the cloud took it back
    at: datetime
    timings: Timings | None = None  # of the installation, as the VM's life has them


class HazardQuestion(Model):
    """How often are machines like these lost? By the VMs' keys; those that the market has not sold say nothing."""

    vms: list[str] = []
    at: datetime


class Hazard(Model):
    """Losses to expect of a machine, each hour; None where there is no market yet."""

    losses_per_hour: float | None


class Price(Model):
    """Spot list price of a machine type with its GPUs, in USD per hour; None where the cloud tells none."""

    usd_per_hour: float | None


class PreemptedVm(Model):
    """An instance that the cloud says it has taken back."""

    name: str
    zone: str
    operation: str
    at: datetime
