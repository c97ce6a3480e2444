"""A place in the cluster, and what runs there: the Job of each incarnation, its pod, its log, its outputs."""

from datetime import datetime
from typing import Any

from activities.signatures.base import JobRef, Signature
from activities.signatures.machines import VmRef
from api.common import LocalReference, SecretReference
from api.model import Model
from api.report import JobReport
from api.spot_instance_job import CheckpointStorage, SpotInstanceJobSpec
from api.spot_instance_vm import SshAccess
from api.views import ReplicaView, RestorePoint


class FindCapacity(Model):
    """Nodes on which this job's pod would fit now. ``avoid`` are nodes of its other replicas and such as failed."""

    job: JobRef
    job_template: dict[str, Any]
    avoid: list[str] = []


class Capacity(Model):
    """Names of nodes with room, best first, and why the others were passed over."""

    nodes: list[str]
    reason: str = ""


class CreateReplica(Model):
    """The Job of one incarnation, built from the template and pinned to one of ``nodes``."""

    job: JobRef
    job_template: dict[str, Any]
    replica: int
    incarnation: int
    nodes: list[str]
    bought: bool  # the node carries our taint with the job's id
    place: str | None = None  # it is for one of ``nodes``, or for a node to come with this LABEL_PLACE
    suspended: bool = False  # until somebody lets it go on
    labels: dict[str, str] = {}  # of the Job, beneath the template's
    restore: RestorePoint | None = None
    image_pull: SecretReference | None = None  # checkpointRepoCredentialRef
    checkpoint_image_repo: str | None = None
    cloud_credentials: SecretReference | None = None
    storage: CheckpointStorage | None = None  # where the training may keep checkpoints of its own
    probe_patience: float = 0  # seconds for which its probes have to bear that it is dumped

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
            **incarnation,
        )


POD_REFUSED = "PodRefused"
"""The reason of a verdict: admission to the cluster refuses the pod, or the Job that makes it."""
INVALID_JOB_TEMPLATE = "InvalidJobTemplate"
"""The reason of a verdict: the template is no Job's."""


class CheckPod(Model):
    """Would the pod of this incarnation be admitted?

    ``waiting`` are other replicas of the job that have a machine, or are about to, and may have no pod yet: a quota has
    to have room for theirs, too.
    """

    incarnation: CreateReplica
    waiting: list[int] = []


class PodVerdict(Model):
    """Whether the pod of an incarnation would be admitted now; ``message`` says why not, and what helps.

    ``remark`` is what a person should know though nothing is refused, for example that a webhook cannot be asked.
    """

    admitted: bool
    reason: str = ""
    message: str = ""
    remark: str = ""
    suspended: bool = False  # the Job would be, in the moment of its creation
    queue: str | None = None  # that its label would name
    gates: list[str] = []  # that would keep the pod from being scheduled


class FindStrangers(Model):
    """Who keeps this job's pod off the node that was bought for it?"""

    job: JobRef
    job_template: dict[str, Any]
    node: str


class Strangers(Model):
    """Other owners' pods without which this job's pod would fit; none if it fits, or if it would not fit anyway."""

    pods: list[str]  # namespace/name
    lacks: str = ""  # what they leave too little of, for example "too few free GPUs"


class ReplicaRef(Model):
    """One incarnation of a replica."""

    job: JobRef
    replica: int
    incarnation: int


class StartReading(Model):
    """Why an incarnation's pod does not run yet, as far as the cluster says."""

    reason: str = ""  # FailedCreate, ImagePullBackOff, FailedMount …; empty if nothing is known to keep it
    message: str = ""  # the words of the Job controller, the scheduler or the kubelet
    busy: str = ""  # what goes on meanwhile: an image is pulled, an init container runs
    progressed_at: datetime | None = None  # when something last went on


class FindCause(Model):
    """Is what kept a pod of this template from running still so? Asked while nothing is bought for it."""

    job: JobRef
    job_template: dict[str, Any]
    reason: str  # of the condition PodsStart
    restore: RestorePoint | None = None
    image_pull: SecretReference | None = None  # checkpointRepoCredentialRef
    checkpoint_image_repo: str | None = None
    cloud_credentials: SecretReference | None = None


class Cause(Model):
    """``missing`` says what is still not there; ``known`` if that can be told for such a reason."""

    missing: str = ""
    known: bool = True


class StopReplica(Model):
    """Stop the pod and keep the Job, or delete the Job with its pod. ``force`` once the machine is known to be gone."""

    ref: ReplicaRef
    delete_job: bool
    force: bool = False


class SaveLogs(Model):
    """Add this incarnation's log to what is kept of the replica's: in the bucket if ``storage`` names one."""

    ref: ReplicaRef
    storage: CheckpointStorage | None = None
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef


class SavedLog(Model):
    """Where the replica's logs are and how much was added; ``problem`` says why that is not the bucket."""

    location: str
    added_bytes: int
    reason: str = ""
    problem: str = ""


class ShortenLogs(Model):
    """At the job's end: leave no more in these replicas' ConfigMaps than finished jobs may take of etcd."""

    job: JobRef
    replicas: list[int]
    storage: CheckpointStorage | None = None
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef


class ShortenedLogs(Model):
    """How many were moved into the bucket; ``problem`` says why one could not be."""

    moved: int = 0
    location: str = ""
    reason: str = ""
    problem: str = ""


class ReadProgress(Model):
    """How far a replica says it is."""

    ref: ReplicaRef
    log_pattern: str


class ProgressReading(Model):
    """The last number that the log pattern matched, None where it matched none."""

    progress: float | None


class SaveOutputs(Model):
    """Upload what a training that has ended has left at ``paths`` in its containers."""

    ref: ReplicaRef
    paths: list[str]
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef
    vm: VmRef
    ssh_user: str
    ssh_key: LocalReference | None = None
    ssh_access: SshAccess = "Metadata"


class SavedOutputs(Model):
    """``done`` once all files are in the bucket below ``location``."""

    done: bool
    files: int = 0
    total_bytes: int = 0
    location: str = ""


class WriteReport(Model):
    """At the job's end: what stays in the bucket when its object goes."""

    report: JobReport
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef


class WrittenReport(Model):
    """Where the report is."""

    location: str


class SetBudget(Model):
    """Let evictions wait, or pass; ``labels`` are those of the job's template."""

    job: JobRef
    held: bool
    labels: dict[str, str] = {}


class Budget(Model):
    """``held`` if there is one now; ``beside`` names one of somebody else's, which holds evictions itself."""

    held: bool = False
    beside: str | None = None


FIND_CAPACITY = Signature("find_capacity", FindCapacity, Capacity, timeout=10)
FIND_STRANGERS = Signature("find_strangers", FindStrangers, Strangers, timeout=10)

CHECK_POD = Signature("check_pod", CheckPod, PodVerdict, timeout=30)
CREATE_REPLICA = Signature("create_replica", CreateReplica, ReplicaView, timeout=10)
OBSERVE_REPLICA = Signature("observe_replica", ReplicaRef, ReplicaView, timeout=10)
READ_START = Signature("read_start", ReplicaRef, StartReading, timeout=10)
FIND_CAUSE = Signature("find_cause", FindCause, Cause, timeout=30)
STOP_REPLICA = Signature("stop_replica", StopReplica, ReplicaView, timeout=10)
SET_BUDGET = Signature("set_budget", SetBudget, Budget, timeout=10)
SAVE_LOGS = Signature("save_logs", SaveLogs, SavedLog, timeout=30)
SHORTEN_LOGS = Signature("shorten_logs", ShortenLogs, ShortenedLogs, timeout=60)
WRITE_REPORT = Signature("write_report", WriteReport, WrittenReport, timeout=30)
READ_PROGRESS = Signature("read_progress", ReadProgress, ProgressReading, timeout=10)

SAVE_OUTPUTS = Signature("save_outputs", SaveOutputs, SavedOutputs, timeout=60, heartbeat=20)
