"""The state of a job: one object, carried over continue-as-new as it is.

Signal handlers write facts into it, coroutines write what they decided; everything that a coroutine needs to start
again in any phase is here. It is bounded: what nobody needs any more is dropped where it becomes so.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from activities.signatures import Hold, JobEvent, PatchSpec
from api.common import Condition, LocalReference
from api.messages import VmReport
from api.report import VmRecord
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec, SshAccess
from api.timings import Timings
from api.views import CheckpointView, NodeView, ReplicaView, RestorePoint
from workflows.ledger import Ledger

Phase = Literal[
    "Pending",  # looks for a free GPU in the cluster
    "Preempted",  # the same, after its machine was lost
    "Queued",  # its Job exists, and a queue or somebody else holds it: nothing is bought
    "Provisioning",  # a VM is being bought
    "Joining",  # it joins the cluster
    "NodeReady",
    "Restoring",  # waits for what it shall start from, and for its predecessor to have stopped
    "Starting",  # its Job exists, its pod does not run yet
    "Running",
    "Judging",  # its pod has ended: the training's own end, or a preemption's?
    "Releasing",  # lets go of Job and VM
    "Released",
    "Succeeded",
    "Failed",
]
TERMINAL: frozenset[Phase] = frozenset({"Released", "Succeeded", "Failed"})
Halt = Literal["Suspended", "ScaledDown", "Completed", "Failed", "Deleted"]


class Mutable(BaseModel):
    """Part of the state."""

    model_config = ConfigDict(extra="ignore")


class Old(Mutable):
    """An incarnation that is to be replaced: its Job goes last, its machine may already be gone."""

    incarnation: int
    node: str | None
    vm_key: str | None  # of a machine that is going; None where the machine stays
    view: ReplicaView | None = None
    logs_saved: bool = False
    asked_to_stop: bool = False
    stopped: bool = False


class Recovery(Mutable):
    """Why a replica is being replaced and how far that is."""

    cause: str
    noticed_at: datetime
    olds: list[Old] = []
    own: int | None = None  # number of the checkpoint of the dying replica itself
    last: int | None = None  # number of its second one, of what it trained after the first
    checkpoint: int | None = None  # number of the survivor's checkpoint that it waits for
    checkpoint_tries: int = 0
    asked: list[int] = []  # replicas that were asked for a checkpoint: the next one asks another
    node_ready_at: datetime | None = None


class Trouble(Mutable):
    """Why a replica's pod does not run."""

    reason: str
    message: str
    since: datetime
    seen: bool = False  # by a look of ours: once it is not seen any more, it is gone


class Ends(Mutable):
    """Ends of a replica's pods that left the machine standing, in a row: since it last ran well."""

    node: str = ""
    here: int = 0  # on that node
    failed_here: int = 0  # of them failures of the training itself
    machines: int = 0  # that were left because of them
    left_failing: bool = False  # one of these was left because the training failed there
    reason: str = ""  # of the condition Stable; empty as long as nothing happened again
    message: str = ""

    @property
    def recent(self) -> bool:
        """True until the replica has run well since the last of them."""
        return bool(self.here or self.machines or self.reason)


class Dump(Mutable):
    """The last checkpoint that was made of a replica: its end may be of that one's doing."""

    number: int
    incarnation: int
    requested_at: datetime
    ended_at: datetime | None = None
    usable: bool = False


class Death(Mutable):
    """A training's end by itself: what it had started from, and how far it was."""

    start: str  # label of the restore point; empty after a start from the beginning
    position: float
    reported: bool = False  # position is the training's own figure, not seconds


class Replica(Mutable):
    """One replica: where it is in its life and what is known of it."""

    index: int
    incarnation: int = -1  # the last that was begun
    live: bool = False  # its Job may exist, and it is not among the recovery's olds
    pinned: bool = False  # its Job was made before there was a machine, and is pinned to the label of its place
    held: bool = False  # somebody has suspended its Job, for once: the next one is held, too
    phase: Phase = "Pending"
    since: datetime
    message: str = ""
    deadline: datetime | None = None  # of the present phase
    halt: Halt | None = None
    proof: bool = False  # only to see that an image starts
    outcome: Literal["Succeeded", "Failed"] | None = None
    place: int = 0  # counts its VMs
    vm_key: str | None = None
    node: str | None = None
    candidates: list[str] = []
    view: ReplicaView | None = None
    view_version: int = 0
    restore: RestorePoint | None = None
    recovery: Recovery | None = None
    running_since: datetime | None = None
    base_seconds: float = 0  # of training in what it was restored from
    reading: float | None = None  # the last progress that it reported itself
    reading_at: datetime | None = None
    first_reading: float | None = None  # of this incarnation
    stalled: bool = False
    dump: Dump | None = None
    to_prove: bool = False  # it runs from an image that has yet to show that it trains on
    hung: str = ""  # what it has reported for longer than the job bears: it is to be started again
    broken: int = 0  # restores in a row after which it ended soon
    restarts: int = 0
    ignored: int = 0  # failures that podFailurePolicy ignores, one soon after the other
    preemptions: int = 0
    failures: int = 0  # of steps, one after the other: for the back-off
    retry_at: datetime | None = None
    in_vain: int = 0  # VMs in a row that never ran a pod of it
    asking: bool = False  # whether its pod would be admitted: it may be about to buy a VM
    refusals: int = 0  # in a row, of its pod before a VM was bought for it
    crowded: int = 0  # VMs in a row that became a node and had no room for it
    avoid: list[str] = []  # nodes where it did not start
    trouble: Trouble | None = None  # why its pod does not run, until it does
    hindered_since: datetime | None = None  # since when something keeps its present pod from running
    shunned: dict[str, datetime] = {}  # nodes where it ended again and again, and until when it keeps away
    ends: Ends = Field(default_factory=Ends)
    disruptions: int = 0  # pods that were taken away though their machine stood
    disruption: str | None = None  # why its present pod is taken away, in the words of whoever does it
    ran: bool | None = None  # a pod of it ran; None in a replica that is older than this field
    reserved: str | None = None  # key of the spot VM that is to take it over from on-demand
    return_at: datetime | None = None  # when such a one is sought
    return_checkpoint: int | None = None  # number of the checkpoint that it goes over with
    moving: bool = False  # it is to leave its machine for that one
    last_checkpoint_image: str | None = None
    last_checkpoint_time: datetime | None = None
    outputs_done: bool = False  # its outputs are uploaded, or given up with a condition
    kept_until: datetime | None = None  # it failed for good, and its VM stays for its owner to look at
    log: str | None = None  # where its logs are

    def see(self, view: ReplicaView, version: int) -> None:
        """Take in what was told of its present incarnation; who takes its pod away is remembered beyond the pod."""
        self.view, self.view_version = view, version
        self.disruption = (view.pod.disruption if view.pod else None) or self.disruption

    def forget_trouble(self) -> None:
        """Forget what was wrong before it was let go: whoever resumes it later may have put that right."""
        self.trouble, self.ends, self.disruption, self.held = None, Ends(), None, False
        self.in_vain = self.crowded = self.refusals = self.ignored = 0

    @property
    def has_run(self) -> bool:
        """True if a pod of it ran, also if that was before replicas remembered it."""
        if self.ran is None:
            return self.running_since is not None or self.restore is not None or self.preemptions > 0
        return self.ran or self.running_since is not None


class Source(Mutable):
    """Whose memory a checkpoint holds, as it was when that was asked for."""

    replica: int
    incarnation: int
    node: str | None
    lineage_seconds: float
    reading: float | None = None  # what the training had last reported
    by_seconds: bool = False  # what it reports is not comparable: the pattern in its log is another now
    fingerprint: dict[str, str] = {}  # of the machine under it


class Checkpoint(Source):
    """One CheckpointBackup, from the request to its end."""

    number: int
    reason: str
    requested_at: datetime
    ends_at: datetime | None = None  # when the machine under it is gone, where its notice says so
    created: bool = False
    phase_at: datetime | None = None  # when its phase last changed
    view: CheckpointView | None = None
    version: int = 0
    outcome: Literal["Usable", "Failed"] | None = None
    message: str = ""


class Discard(Mutable):
    """Images that retention has dropped, until they are out of the registry."""

    images: list[str]
    not_before: datetime  # of a checkpoint that was given up an image may still come


class Vm(Mutable):
    """A VM bought for this job, until it is confirmed gone."""

    key: str
    replica: int
    report: VmReport | None = None
    existed_at: datetime | None = None  # when it was first said to be more than a wish
    released: str | None = None
    on_demand: bool = False  # it may fall back to on-demand
    spot_only: bool = False  # bought to bring a replica back from on-demand
    outdated: bool = False  # the SpotInstanceVM was edited while this one was still to be bought
    ssh_user: str | None = None  # that it was bought with; None before that
    ssh_key: LocalReference | None = None  # beside ssh_user; None: the installation's
    ssh_access: SshAccess = "Metadata"  # beside ssh_user

    @property
    def sought(self) -> bool:
        """Nothing of it exists yet, as far as it told."""
        return not self.released and (self.report is None or self.report.stage == "Creating")

    @property
    def record(self) -> VmRecord | None:
        """What the job's report says of it; None if it never existed."""
        report = self.report
        if report is None or report.vm_name is None or self.existed_at is None:
            return None
        return VmRecord(
            name=report.vm_name,
            replica=self.replica,
            zone=report.zone,
            machine_type=report.candidate.machine_type if report.candidate else None,
            provisioning=report.candidate.provisioning if report.candidate else None,
            price_per_hour=report.price,
            created_at=self.existed_at,
            gone_at=report.at if self.gone else None,
            why_gone=(self.released or report.reason)[:200] if self.gone else "",
        )

    @property
    def runs_on_demand(self) -> bool:
        """Bought, or being bought, on-demand."""
        candidate = self.report.candidate if self.report else None
        return candidate is not None and candidate.provisioning == "OnDemand"

    @property
    def holds_on_demand(self) -> bool:
        """It is counted among those that may be on-demand: it is, or it may still become so."""
        if self.gone or self.released:
            return False
        return self.runs_on_demand or (self.on_demand and self.sought)

    @property
    def failed(self) -> bool:
        """It is of no use any more: announced to go, lost, or on its way out."""
        return self.report is not None and self.report.stage in {"Noticed", "Lost", "Deleting", "Gone"}

    @property
    def dead(self) -> bool:
        """The machine is confirmed not to run."""
        return self.report is not None and (self.report.dead or self.report.stage == "Gone")

    @property
    def gone(self) -> bool:
        """Nothing is left of it."""
        return self.report is not None and self.report.stage == "Gone"


class Notice(Mutable):
    """A machine is announced to go."""

    source: str
    at: datetime
    ends_at: datetime | None = None  # when it is shut down, where that is known


class Clock(Mutable):
    """How long the training has had: since the first start, without the time while it was suspended."""

    begun: bool = False
    since: datetime | None = None  # None: it stands
    seconds: float = 0  # before that


class Failure(Mutable):
    """Why the job as a whole has failed, whatever its replicas do."""

    reason: str
    message: str


class BudgetState(Mutable):
    """The job's PodDisruptionBudget, by which evictions wait for a checkpoint."""

    held: bool = False  # it exists
    newest: int = 0  # number of the checkpoint after which evictions passed last
    open_until: datetime | None = None  # until when they pass
    since: datetime | None = None  # since when there is something to lose
    asked: int | None = None  # number of the checkpoint that was asked for because of a cordon
    cordoned: list[str] = []  # nodes for whose cordon a checkpoint was asked for


class JobState(Mutable):
    """All of it."""

    generation: int = 0
    heard: tuple[int, int] = (0, 0)  # newest generations of job and VM that the bridge told of
    reread: bool = True  # the documents may have changed since they were read
    spec: SpotInstanceJobSpec | None = None
    vm_spec: SpotInstanceVMSpec | None = None
    timings: Timings = Timings()
    hold: Hold | None = None  # who suspends each Job of this job: a queue, say
    admitted: bool = False  # its documents are right and the preflight has passed
    checked_at: datetime | None = None  # when what it needs was last looked at; None: that is due
    unfit: list[str] = []  # labels of candidates on which no pod of the template can ever run
    known_at: dict[str, datetime] = {}  # by the check's condition: when it was last known
    replicas: dict[int, Replica] = {}
    retired: dict[int, tuple[int, int]] = {}  # index → (next incarnation, place) of replicas scaled down
    vms: dict[str, Vm] = {}
    nodes: dict[str, NodeView] = {}
    node_versions: dict[str, int] = {}
    unready: dict[str, datetime] = {}  # since when nodes are NotReady
    notices: dict[str, Notice] = {}
    checkpoints: dict[int, Checkpoint] = {}
    checkpoint_number: int = 0
    recent_dumps: list[float] = []  # seconds from the request to the pushed image, of the last few
    next_checkpoint_at: datetime | None = None
    points: list[RestorePoint] = []
    discarded: list[Discard] = []
    proofs: int = 0  # replicas that were begun to see that an image starts
    deletion_refused: bool = False  # the registry's refusal was told
    losses_per_hour: float | None = None  # to expect of a machine, as the market told last
    dump_mean_seconds: float | None = None
    armed_at: datetime | None = None  # when the checkpoint timer began
    interval_told: float | None = None  # seconds, where checkpointInterval is auto
    ever_checkpointed: bool = False
    started: bool | None = None  # a pod of some replica ran; None in a job that is older than this field
    deaths: list[Death] = []  # the last few, of all replicas
    kills: int = 0  # checkpoints in a row that killed the training they were made of
    killer: int = 0  # the number of the last of those
    paused_until: datetime | None = None  # no checkpoint is made of a training that goes on, for it may kill it
    on_demand_told: bool = False  # that on-demand would cost less
    budget: BudgetState = Field(default_factory=BudgetState)
    suspended: bool = False
    suspend_checkpoint: int | None = None
    suspend_tries: int = 0
    suspend_retry_at: datetime | None = None  # its checkpoint failed, and is not asked for again before
    checkpoint_wanted: bool = False
    clock: Clock = Field(default_factory=Clock)
    failure: Failure | None = None
    outcome: Literal["Completed", "Failed"] | None = None
    shutdown: str | None = None
    unreadable: bool = False  # it is to be torn down, and its spec is not to be had any more
    ledger: Ledger = Field(default_factory=Ledger)
    logs_again_at: datetime | None = None  # the bucket did not take a log, and is not asked before
    wishes: list[PatchSpec] = []  # of people, by signal: on their way into the spec
    conditions: dict[str, Condition] = {}
    events: list[JobEvent] = []  # still to be written

    @property
    def has_run(self) -> bool:
        """True if a pod of this job ran, also if that was before jobs remembered it.

        Once that is remembered, restore points show nothing: ``restoreFrom`` may name those of another job.
        """
        if self.started is None and (self.ever_checkpointed or self.points or self.ledger.incarnations):
            return True
        return bool(self.started) or any(replica.has_run for replica in self.replicas.values())

    @property
    def last_dump_seconds(self) -> float:
        """What the last checkpoint took, from the request to the pushed image; 0 before the first."""
        return self.recent_dumps[-1] if self.recent_dumps else 0.0

    def compare_by_seconds(self) -> None:
        """Forget the figures that trainings have reported: those to come are counted otherwise."""
        self.points = [
            point.model_copy(update={"progress": point.seconds, "reported": False}) if point.kind == "Image" else point
            for point in self.points
        ]
        for replica in self.replicas.values():
            replica.reading, replica.reading_at, replica.stalled = None, None, False
            replica.first_reading = None
        for record in self.checkpoints.values():
            if record.outcome is None:
                record.reading, record.by_seconds = None, True

    def fingerprint_under(self, replica: Replica) -> dict[str, str]:
        """Of its machine, also of one that it is to start on; nothing is known of one that we did not buy."""
        vm = self.vms.get(replica.vm_key or "")
        return vm.report.fingerprint if vm and vm.report else {}
