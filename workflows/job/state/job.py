"""The state of a job: one object, which continue-as-new carries on unchanged.

Signal handlers write facts into it, and coroutines write what they decided. It contains all that a coroutine needs to
start again in any phase. It is bounded: what is no longer needed is dropped at once.
"""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from activities.signatures import Hold, JobEvent, PatchSpec
from api import reasons
from api.common import Condition
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import OnDemandFallback, SpotInstanceVMSpec
from api.timings import Timings
from api.views import NodeView, RestorePoint
from workflows.common.stored import Mutable, Renamed
from workflows.job.state.checkpoint import Checkpoint, Death, Discard
from workflows.job.state.ledger import Ledger
from workflows.job.state.replica import Replica
from workflows.job.state.requests import RequestsState
from workflows.job.state.vm import Vm


class Notice(Mutable):
    """The news that a machine is about to go."""

    source: str
    at: datetime
    ends_at: datetime | None = None  # when it is shut down, if that is known


class Clock(Mutable):
    """The time that the training has had since its first start, without that in which it was suspended."""

    begun: bool = False
    since: datetime | None = None  # since when the clock runs; None if it is stopped
    seconds: float = 0  # counted before ``since``


class Failure(Mutable):
    """Why the job as a whole has failed, whatever its replicas do."""

    reason: str
    message: str


class BudgetState(Renamed):
    """The job's PodDisruptionBudget, by which evictions wait for a checkpoint."""

    STORED_NAMES: ClassVar[dict[str, str]] = {"exists": "held"}

    exists: bool = False
    newest: int = 0  # the number of the checkpoint after which evictions last passed
    open_until: datetime | None = None  # until when evictions pass
    since: datetime | None = None  # since when there is something to lose
    asked: int | None = None  # the number of the checkpoint that was requested because of a cordon
    cordoned: list[str] = []  # the nodes for whose cordon a checkpoint was requested


class JobState(Renamed):
    """The whole state of a job."""

    STORED_NAMES: ClassVar[dict[str, str]] = {"edits": "wishes", "requests": "orders"}

    generation: int = 0
    heard: tuple[int, int] = (0, 0)  # the newest generations of job and SpotInstanceVM that the bridge reported
    reread: bool = True  # the documents may have changed since they were read
    spec: SpotInstanceJobSpec | None = None
    vm_spec: SpotInstanceVMSpec | None = None
    timings: Timings = Timings()
    searchable: bool = False  # the search attributes are registered
    hold: Hold | None = None  # who suspends each Job of this job, such as a queue
    admitted: bool = False  # the job is accepted: its documents are valid and the preflight has passed
    checked_at: datetime | None = None  # when the last preflight began; None if one is due
    unfit: list[str] = []  # the labels of candidates on which no pod of the template can ever run
    known_at: dict[str, datetime] = {}  # when each condition of the preflight was last known
    replicas: dict[int, Replica] = {}
    retired: dict[int, tuple[int, int]] = {}  # index → (last incarnation, number of VMs) of replicas scaled down
    vms: dict[str, Vm] = {}
    nodes: dict[str, NodeView] = {}
    node_versions: dict[str, int] = {}
    unready: dict[str, datetime] = {}  # since when nodes are NotReady
    notices: dict[str, Notice] = {}
    checkpoints: dict[int, Checkpoint] = {}
    checkpoint_number: int = 0
    recent_dumps: list[float] = []  # the seconds that the last few took, from the request to the pushed image
    next_checkpoint_at: datetime | None = None
    points: list[RestorePoint] = []
    discarded: list[Discard] = []
    proofs: int = 0  # how many proof replicas were begun
    deletion_refused: bool = False  # the registry's refusal was reported
    losses_per_hour: float | None = None  # the loss rate of a machine, as the market last reported it
    dump_mean_seconds: float | None = None
    armed_at: datetime | None = None  # when the checkpoint timer began
    interval_told: float | None = None  # the seconds that were reported for checkpointInterval: auto
    ever_checkpointed: bool = False
    started: bool | None = None  # a pod of some replica ran; None if the job is older than this field
    deaths: list[Death] = []  # the last few, of all replicas
    kills: int = 0  # how many checkpoints in a row killed their source
    killer: int = 0  # the number of the last of those
    paused_until: datetime | None = None  # until then no checkpoint is scheduled, because the last one killed
    on_demand_told: bool = False  # it was reported that on-demand would cost less
    budget: BudgetState = Field(default_factory=BudgetState)
    suspended: bool = False
    suspend_checkpoint: int | None = None
    suspend_tries: int = 0
    suspend_retry_at: datetime | None = None  # when its failed checkpoint is retried
    checkpoint_wanted: bool = False
    clock: Clock = Field(default_factory=Clock)
    failure: Failure | None = None
    outcome: Literal["Completed", "Failed"] | None = None
    shutdown: str | None = None
    looks_from: datetime | None = None  # from when the regular looks are counted, over all runs
    unreadable: bool = False  # it is to be torn down, but its spec can no longer be read
    ledger: Ledger = Field(default_factory=Ledger)
    logs_again_at: datetime | None = None  # when the bucket is tried again after it did not accept a log
    edits: list[PatchSpec] = []  # people's requests that are still to be written into the spec
    requests: RequestsState = Field(default_factory=RequestsState)
    conditions: dict[str, Condition] = {}
    events: list[JobEvent] = []  # still to be written

    @property
    def has_run(self) -> bool:
        """True if a pod of this job ran, even before jobs remembered that.

        In a job that remembers it, restore points prove nothing: ``restoreFrom`` may name those of another job.
        """
        if self.started is None and (self.ever_checkpointed or self.points or self.ledger.incarnations):
            return True
        return bool(self.started) or any(replica.has_run for replica in self.replicas.values())

    @property
    def end(self) -> str:
        """Say how it ended: why it was shut down, or else what became of the training."""
        return self.shutdown or self.outcome or reasons.DELETED

    @property
    def on_demand_fallback(self) -> OnDemandFallback | None:
        """Return what the SpotInstanceVM says of on-demand VMs; None if it says nothing, or is not read yet."""
        return self.vm_spec.on_demand_fallback if self.vm_spec else None

    @property
    def last_dump_seconds(self) -> float:
        """Return how long the last checkpoint took, from the request to the pushed image; 0 before the first."""
        return self.recent_dumps[-1] if self.recent_dumps else 0.0

    def compare_by_seconds(self) -> None:
        """Forget the progress that trainings have reported, because later reports will count differently."""
        self.points = [
            point.model_copy(update={"progress": point.seconds, "reported": False}) if point.kind == "Image" else point
            for point in self.points
        ]
        for replica in self.replicas.values():
            replica.run.forget_progress()
            replica.run.stalled = False
        for record in self.checkpoints.values():
            if record.outcome is None:
                record.reading, record.by_seconds = None, True

    def fingerprint_under(self, replica: Replica) -> dict[str, str]:
        """Return the fingerprint of the VM that is, or will be, under a replica; empty on a node of the cluster."""
        vm = self.only_vm(replica)
        return vm.report.fingerprint if vm and vm.report else {}

    # --- look-ups, which return None if the object is not known or not chosen yet

    def vm(self, key: str | None) -> Vm | None:
        """Find a VM by its key."""
        return self.vms.get(key) if key else None

    def vms_under(self, replica: Replica) -> list[Vm]:
        """Find the VMs that were bought for a replica and are, or will be, under it."""
        return [self.vms[key] for key in replica.place.vm_keys if key in self.vms]

    def only_vm(self, replica: Replica) -> Vm | None:
        """Find the VM that is, or will be, under a replica with one member. A gang has several, so it has none."""
        return None if replica.place.is_gang else self.vm(replica.place.only.vm_key)

    def on_demand_members(self, replica: Replica) -> list[int]:
        """Number the members of a replica whose VMs are on-demand."""
        vms = [self.vm(seat.vm_key) for seat in replica.place.seats]
        return [member for member, vm in enumerate(vms) if vm is not None and vm.runs_on_demand]

    def node(self, name: str | None) -> NodeView | None:
        """Find a Node as it was last seen."""
        return self.nodes.get(name) if name else None

    def nodes_under(self, replica: Replica) -> list[NodeView]:
        """Find the Nodes under a replica, as far as they were seen."""
        return [self.nodes[name] for name in replica.place.nodes if name in self.nodes]

    def notice(self, node: str | None) -> Notice | None:
        """Find the notice of a machine by its node's name."""
        return self.notices.get(node) if node else None

    def notices_to(self, replica: Replica) -> dict[str, Notice]:
        """Find the notices of the machines under a replica, by their nodes' names. The one that ends first is first."""
        found = {node: self.notices[node] for node in replica.place.nodes if node in self.notices}
        return dict(sorted(found.items(), key=lambda each: each[1].ends_at or each[1].at))

    def notice_to(self, replica: Replica) -> Notice | None:
        """Find the notice of the machine under a replica that goes first."""
        return next(iter(self.notices_to(replica).values()), None)

    def checkpoint(self, number: int | None) -> Checkpoint | None:
        """Find a checkpoint by its number."""
        return self.checkpoints.get(number) if number is not None else None
