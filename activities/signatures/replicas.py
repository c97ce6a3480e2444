"""A place in the cluster, and what runs there: the Job of each incarnation, its pod, its log, its outputs."""

from datetime import datetime
from typing import Any

from pydantic import Field

from activities.signatures.base import JobRef, Signature
from activities.signatures.machines import VmRef
from api.common import LocalReference, SecretReference
from api.model import Model
from api.report import JobReport
from api.spot_instance_job import CheckpointStorage, SpotInstanceJobSpec
from api.spot_instance_vm import SshAccess
from api.views import NodeView, ReplicaView, RestorePoint


class FindCapacity(Model):
    """Find nodes on which this job's pod would fit now. ``avoid`` lists nodes of its other replicas, or that failed.

    A gang takes free nodes for all of its ``members`` or none, and with ``one_zone`` all in one zone: that of the nodes
    ``beside`` which other members stay, if there are any.
    """

    job: JobRef
    job_template: dict[str, Any]
    avoid: list[str] = []
    members: int = Field(default=1, exclude_if=lambda members: members == 1)
    one_zone: bool = Field(default=False, exclude_if=lambda one_zone: not one_zone)
    beside: list[str] = Field(default=[], exclude_if=lambda beside: not beside)


class Capacity(Model):
    """Names of nodes with room for one pod each, best first, and why the others were skipped.

    There is none if there are fewer than members.
    """

    nodes: list[str]
    reason: str = ""


class CreateReplica(Model):
    """Create the Job of one incarnation, built from the template and pinned to one of ``nodes``."""

    job: JobRef
    job_template: dict[str, Any]
    replica: int
    incarnation: int
    nodes: list[str]
    bought: bool  # the node carries our taint with the job's id
    place: str | None = None  # the Job is for one of ``nodes``, or for a node to come with this LABEL_PLACE
    suspended: bool = False  # until somebody resumes it
    labels: dict[str, str] = {}  # the Job's, which the template's override
    restore: RestorePoint | None = None
    image_pull: SecretReference | None = None  # checkpointRepoCredentialRef
    checkpoint_image_repo: str | None = None
    cloud_credentials: SecretReference | None = None
    storage: CheckpointStorage | None = None  # in which the training may keep checkpoints of its own
    probe_patience: float = 0  # seconds of a dump that its probes have to tolerate
    members: int = Field(default=1, exclude_if=lambda members: members == 1)  # pods, each on a node of its own
    indexed: bool = Field(default=False, exclude_if=lambda indexed: not indexed)  # a gang, even if of one member

    @classmethod
    def of(cls, job: JobRef, spec: SpotInstanceJobSpec, **incarnation: Any) -> "CreateReplica":
        """Describe an incarnation by what its job says of all of them, and by what is its own."""
        config = spec.checkpoint_config
        return cls(
            job=job,
            job_template=spec.job_template,
            image_pull=config.checkpoint_repo_credential_ref,
            checkpoint_image_repo=config.checkpoint_image_repo,
            cloud_credentials=spec.gcp_credentials_secret_ref,
            storage=config.checkpoint_storage,
            **{"members": spec.members, "indexed": spec.is_gang, **incarnation},
        )


class CheckPod(Model):
    """Ask whether the pods of this incarnation would be admitted.

    ``waiting`` lists other replicas of the job that have a machine, or soon will, and may have no pod yet: a quota must
    have room for theirs, too.
    """

    incarnation: CreateReplica
    waiting: list[int] = []


class PodVerdict(Model):
    """Whether the pod of an incarnation would be admitted now; ``message`` says why not, and what helps.

    ``warning`` is what a person should know though nothing is refused, for example that a webhook cannot be asked.
    """

    admitted: bool
    reason: str = ""
    message: str = ""
    warning: str = Field("", alias="remark")
    suspended: bool = False  # the Job would be suspended at its creation
    queue: str | None = None  # the queue that its label would name
    gates: list[str] = []  # scheduling gates that the pod would have


class FindStrangers(Model):
    """Ask whose pods keep this job's pod off the node that was bought for it."""

    job: JobRef
    job_template: dict[str, Any]
    node: str


class Strangers(Model):
    """Other owners' pods without which this job's pod would fit; none if it fits, or would not fit anyway."""

    pods: list[str]  # namespace/name
    lacks: str = ""  # what they leave too little of, for example "too few free GPUs"


class ReplicaRef(Model):
    """One incarnation of a replica."""

    job: JobRef
    replica: int
    incarnation: int


class LookAtReplicas(Model):
    """Read the Jobs and pods of several (replica, incarnation) of a job, and the nodes that nobody else looks at."""

    job: JobRef
    replicas: list[tuple[int, int]]
    nodes: list[str] = []
    log_pattern: str | None = None  # read their progress, too


class ProgressReading(Model):
    """The last number that the log pattern matched; None if it matched none.

    Of a gang it is that of the first member that reports any, and ``members`` has those of all that do.
    """

    progress: float | None
    readable: bool = True  # False: there was no log, or its node does not answer now
    members: dict[int, float] = Field(default={}, exclude_if=lambda members: not members)


class SeenReplicas(Model):
    """What was read, in the order in which it was asked for; ``readings`` is empty if no progress was asked for."""

    replicas: list[ReplicaView]
    nodes: list[NodeView] = []
    readings: list[ProgressReading] = []


class StartReading(Model):
    """Why an incarnation's pod does not run yet, as far as the cluster says."""

    reason: str = ""  # FailedCreate, ImagePullBackOff, FailedMount …; empty if nothing is known to keep it
    message: str = ""  # the words of the Job controller, the scheduler or the kubelet
    busy: str = ""  # what happens meanwhile: an image is pulled, an init container runs
    progressed_at: datetime | None = None  # when it last made progress


class FindCause(Model):
    """Ask whether what kept a pod of this template from running persists, while nothing is bought for it."""

    job: JobRef
    job_template: dict[str, Any]
    reason: str  # that of the condition PodsStart
    restore: RestorePoint | None = None
    image_pull: SecretReference | None = None  # checkpointRepoCredentialRef
    checkpoint_image_repo: str | None = None
    cloud_credentials: SecretReference | None = None


class Cause(Model):
    """``missing`` says what still does not exist; ``known`` is True if that can be found out for such a reason."""

    missing: str = ""
    known: bool = True


class StopReplica(Model):
    """Stop the pods and keep the Job, or delete both. ``force`` is for a machine that is known to be gone.

    ``grace`` shortens the seconds that the pods have, for a gang that has lost a member: nobody can save any more.
    """

    ref: ReplicaRef
    delete_job: bool
    force: bool = False
    grace: int | None = Field(default=None, ge=1, exclude_if=lambda grace: grace is None)


class SaveLogs(Model):
    """Add this incarnation's log to the replica's saved one, in the bucket if ``storage`` names one."""

    ref: ReplicaRef
    storage: CheckpointStorage | None = None
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef


class SavedLog(Model):
    """The place of the replica's logs, and how much was added; ``problem`` says why that is not the bucket."""

    location: str
    added_bytes: int
    reason: str = ""
    problem: str = ""


class ShortenLogs(Model):
    """Shorten these replicas' ConfigMaps at the job's end to what finished jobs may take of etcd."""

    job: JobRef
    replicas: list[int]
    storage: CheckpointStorage | None = None
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef


class ShortenedLogs(Model):
    """How many were moved to the bucket; ``problem`` says why one could not be."""

    moved: int = 0
    location: str = ""
    reason: str = ""
    problem: str = ""


class ReadProgress(Model):
    """Read how far a replica reports that it is."""

    ref: ReplicaRef
    log_pattern: str


class SaveOutputs(Model):
    """Upload what an ended training has left at ``paths`` in its containers on ``vm``, those of a gang's ``member``."""

    ref: ReplicaRef
    paths: list[str]
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef
    vm: VmRef
    ssh_user: str
    ssh_key: LocalReference | None = None
    ssh_access: SshAccess = "Metadata"
    member: int | None = Field(default=None, exclude_if=lambda member: member is None)


class SavedOutputs(Model):
    """``done`` is True once all files are in the bucket below ``location``."""

    done: bool
    files: int = 0
    total_bytes: int = 0
    location: str = ""


class WriteReport(Model):
    """Write at the job's end what stays in the bucket when its object is deleted."""

    report: JobReport
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef


class WrittenReport(Model):
    """The location of the report."""

    location: str


class SetBudget(Model):
    """Block evictions, or allow them; ``labels`` are those of the job's template.

    A budget lets the others of several pods be evicted, but none of the ``members`` of a gang.
    """

    job: JobRef
    exists: bool = Field(alias="held")  # whether a budget is to exist
    labels: dict[str, str] = {}
    members: int = Field(default=1, exclude_if=lambda members: members == 1)


class Budget(Model):
    """``exists`` is True if a budget exists now; ``beside`` names somebody else's, which blocks evictions itself."""

    exists: bool = Field(False, alias="held")
    beside: str | None = None


FIND_CAPACITY = Signature("find_capacity", FindCapacity, Capacity, timeout=10)
FIND_STRANGERS = Signature("find_strangers", FindStrangers, Strangers, timeout=10)

CHECK_POD = Signature("check_pod", CheckPod, PodVerdict, timeout=30)
CREATE_REPLICA = Signature("create_replica", CreateReplica, ReplicaView, timeout=10)
OBSERVE_REPLICA = Signature("observe_replica", ReplicaRef, ReplicaView, timeout=10)
LOOK_AT_REPLICAS = Signature("look_at_replicas", LookAtReplicas, SeenReplicas, timeout=20)
READ_START = Signature("read_start", ReplicaRef, StartReading, timeout=10)
FIND_CAUSE = Signature("find_cause", FindCause, Cause, timeout=30)
STOP_REPLICA = Signature("stop_replica", StopReplica, ReplicaView, timeout=10)
SET_BUDGET = Signature("set_budget", SetBudget, Budget, timeout=10)
SAVE_LOGS = Signature("save_logs", SaveLogs, SavedLog, timeout=30)
SHORTEN_LOGS = Signature("shorten_logs", ShortenLogs, ShortenedLogs, timeout=60)
WRITE_REPORT = Signature("write_report", WriteReport, WrittenReport, timeout=30)
READ_PROGRESS = Signature("read_progress", ReadProgress, ProgressReading, timeout=10)

SAVE_OUTPUTS = Signature("save_outputs", SaveOutputs, SavedOutputs, timeout=60, heartbeat=20)
