"""Names and types of all activities: what workflows import instead of their implementations.

A test holds the implementations against this page. Input and output are one pydantic model each, so that a field
can be added while workflows are open.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from api import names
from api.common import Condition, LocalReference, SecretReference
from api.market import Candidate, Choice, Choose, Hazard, HazardQuestion, MarketNews, PreemptedVm, Price
from api.messages import VmStart
from api.model import Model
from api.spot_instance_job import CheckpointConfig, CheckpointStorage, SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance, SpotInstanceVMSpec
from api.timings import Timings
from api.views import CheckpointView, NodeView, ReplicaView, RestorePoint, VmView

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Signature(Generic[In, Out]):
    """One activity. ``timeout`` is its start-to-close time-out in seconds, never over a minute."""

    name: str
    takes: type[In]
    gives: type[Out]
    timeout: float = 20
    heartbeat: float | None = None
    queue: str | None = None  # a task queue of its own, where its rate is bounded


class Done(Model):
    """There is nothing to tell but that it is done."""


# --- the job's documents: specs.py


class JobRef(Model):
    """A SpotInstanceJob object; ``uid`` tells it from one of the same name created later."""

    namespace: str
    name: str
    uid: str
    job_id: str


class JobDocument(Model):
    """The job as it stands in the cluster now, with what it names."""

    exists: bool
    deleting: bool = False
    generation: int = 0
    spec: SpotInstanceJobSpec | None = None
    vm_spec: SpotInstanceVMSpec | None = None
    timings: Timings = Timings()
    problems: list[Condition] = []  # why this document cannot be worked on: condition Accepted=False


class PatchSpec(Model):
    """A person's wish told by signal becomes the CR's, so that kubectl and Temporal agree."""

    job: JobRef
    replicas: int | None = None
    suspend: bool | None = None


class ReleaseFinalizers(Model):
    """The last act: the finalizers on what the job uses and, where it is being deleted or over, on itself."""

    job: JobRef
    vm_name: str | None = None
    secrets: list[SecretReference] = []


class Stock(Model):
    """What exists in the cluster under a job's id, for a run that begins with the teardown."""

    jobs: list[str] = []
    replicas: list[tuple[int, int]] = []  # (replica, incarnation)
    checkpoints: list[str] = []
    nodes: list[str] = []


# --- preflight.py


class PreflightRequest(Model):
    """What has to be right before money is spent."""

    job: JobRef
    spec: SpotInstanceJobSpec
    vm_spec: SpotInstanceVMSpec
    candidates: list[Candidate]  # that vm_spec allows


class Preflight(Model):
    """A condition for each thing looked at: CheckpointOperatorReady, RegistryReady, CredentialsReady, CloudReady."""

    conditions: list[Condition]

    @property
    def passed(self) -> bool:
        """Nothing stands in the way."""
        return all(condition.status == "True" for condition in self.conditions)


# --- capacity.py


class FindCapacity(Model):
    """Nodes on which this job's pod would fit now. ``avoid`` are nodes of its other replicas and such as failed."""

    job: JobRef
    job_template: dict[str, Any]
    avoid: list[str] = []


class Capacity(Model):
    """Names of nodes with room, best first, and why the others were passed over."""

    nodes: list[str]
    reason: str = ""


# --- replicas.py


class CreateReplica(Model):
    """The Job of one incarnation, built from the template and pinned to one of ``nodes``."""

    job: JobRef
    job_template: dict[str, Any]
    replica: int
    incarnation: int
    nodes: list[str]
    bought: bool  # the node carries our taint with the job's id
    restore: RestorePoint | None = None
    image_pull: SecretReference | None = None  # checkpointRepoCredentialRef
    checkpoint_image_repo: str | None = None
    cloud_credentials: SecretReference | None = None
    storage: CheckpointStorage | None = None  # where the training may keep checkpoints of its own


class ReplicaRef(Model):
    """One incarnation of a replica."""

    job: JobRef
    replica: int
    incarnation: int


class StopReplica(Model):
    """Stop the pod and keep the Job, or delete the Job with its pod. ``force`` once the machine is known to be gone."""

    ref: ReplicaRef
    delete_job: bool
    force: bool = False


class SaveLogs(Model):
    """Append this incarnation's log to what is kept of the replica's."""

    ref: ReplicaRef


class SavedLog(Model):
    """Where the log is and how much of it was added."""

    location: str
    added_bytes: int


# --- checkpoints.py


class CreateCheckpoint(Model):
    """One CheckpointBackup, now. The progress is read from the log just before and goes into the tag."""

    job: JobRef
    number: int
    replica: int
    incarnation: int
    config: CheckpointConfig
    lineage_seconds: float  # its progress where the training reports none
    unix: int  # of the request, for the tag


class CheckpointRef(Model):
    """A CheckpointBackup by its number."""

    job: JobRef
    number: int
    containers: list[str] = []


class ReadProgress(Model):
    """How far a replica says it is."""

    ref: ReplicaRef
    log_pattern: str


class ProgressReading(Model):
    """The last number that the log pattern matched, None where it matched none."""

    progress: float | None


# --- images.py


Which = Literal["Ours", "LatestTag", "Image"]  # tags with our id by progress, the tag created last, restoreFrom


class FindImage(Model):
    """Look into the registry for something to start from."""

    job: JobRef
    config: CheckpointConfig
    containers: list[str]
    which: Which
    cloud_credentials: SecretReference | None = None  # gcpCredentialsSecretRef, which opens Google's registries too


class FoundImage(Model):
    """What was found, None where the repository holds nothing of the kind."""

    point: RestorePoint | None


class PinImages(Model):
    """Resolve a restore point's tags to digests: a tag can move."""

    job: JobRef
    config: CheckpointConfig
    point: RestorePoint
    cloud_credentials: SecretReference | None = None


class DeleteImages(Model):
    """Remove images that retention has dropped."""

    job: JobRef
    config: CheckpointConfig
    images: list[str]
    cloud_credentials: SecretReference | None = None


class DeletedImages(Model):
    """``refused`` is what the registry said where it deletes nothing for us."""

    refused: str | None = None


# --- storage/: checkpoints that a training keeps itself


class FindStored(Model):
    """Look into the bucket for the furthest complete checkpoint of this job."""

    job: JobRef
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef
    restore_from: str | None = None  # a prefix, looked into where the job has none of its own
    avoid: list[str] = []  # paths of such as were complete and did not start


class FoundStored(Model):
    """A restore point of kind Storage, None where there is none; and why others were passed over."""

    point: RestorePoint | None
    passed_over: list[str] = []


# --- compute/: GCE


class VmRef(Model):
    """An instance by name, with what is needed to reach its project."""

    project: str
    zone: str
    name: str
    namespace: str  # of the SpotInstanceVM: where a credentials reference without a namespace points
    credentials: SecretReference | None = None
    labels: dict[str, str] = {}  # an instance without these is somebody else's: CONFLICT, never deleted
    instance_id: str | None = None


class CreateVm(Model):
    """Ask GCE for one instance. Safe to repeat: the request id comes from name and zone."""

    vm: VmRef
    spec: SpotInstanceVMSpec
    candidate: Candidate
    ssh_public_key_of: LocalReference | None = None  # Secret with ssh-privatekey; default: the installation's


class VmOperation(Model):
    """The create operation; ``name`` is None where the instance was there already."""

    name: str | None


class ObserveCreate(Model):
    """Where the operation stands."""

    vm: VmRef
    operation: str | None


class CreateProgress(Model):
    """``error`` is one of api.errors where the operation failed; then it is DONE and the instance absent or failed."""

    done: bool
    error: str | None = None
    message: str = ""
    scope: str = ""  # of a quota: its metric
    vm: VmView


class ReadPrice(Model):
    """What a spot VM of this kind costs now, in the candidate's region."""

    project: str
    candidate: Candidate
    namespace: str
    credentials: SecretReference | None = None


class FindPreempted(Model):
    """Operations by which the cloud took machines back in these zones, since a moment."""

    project: str
    zones: list[str]
    since: datetime
    namespace: str
    credentials: SecretReference | None = None


class Preempted(Model):
    """The machines taken back."""

    vms: list[PreemptedVm]


# --- market.py: the market's workflow, by Temporal's API


class AskMarket(Model):
    """Put a question to a project's market."""

    project: str
    timings: Timings
    question: Choose


class AskHazard(Model):
    """Ask a project's market how often machines are lost."""

    project: str
    question: HazardQuestion


class TellMarket(Model):
    """Tell a project's market what became of a VM."""

    project: str
    timings: Timings
    news: MarketNews


# --- outputs.py


class SaveOutputs(Model):
    """Upload what a training that has ended has left at ``paths`` in its containers."""

    ref: ReplicaRef
    paths: list[str]
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef
    vm: VmRef
    ssh_user: str
    ssh_key: LocalReference | None = None


class SavedOutputs(Model):
    """``done`` once all files are in the bucket below ``location``."""

    done: bool
    files: int = 0
    total_bytes: int = 0
    location: str = ""


# --- nodes.py: SSH and the Node


class StartJoin(Model):
    """Connect, verify the host key, put the JoinConfiguration there and start ``kubeadm join`` detached."""

    vm: VmRef
    spec: SpotInstanceVMSpec
    address: str
    job_id: str
    cluster_id: str
    provider_id: str
    namespace: str
    ssh_key: LocalReference | None = None
    token_lifetime: float = 1800
    workflow: str = ""  # of the owner, for the Node's annotation


class JoinProgress(Model):
    """What the machine says of its join. ``token_id`` of the token minted for it, None where the Secret named one."""

    state: Literal["Unreachable", "Booting", "Running", "Joined", "Failed"]
    message: str = ""
    token_id: str | None = None
    fingerprint: dict[str, str] = {}


class NodeRef(Model):
    """A Node; with ``uid`` only that object, not one of the same name created later."""

    name: str
    uid: str | None = None


class NodeReadiness(Model):
    """The node and, where the GPU operator is installed, its validator pod there."""

    view: NodeView
    gpu_operator: bool = False
    validated: bool = False


class PrepareNode(Model):
    """Labels and annotations that a kubelet may not set itself: owner, zone, job."""

    node: NodeRef
    labels: dict[str, str]
    annotations: dict[str, str]


class Drained(Model):
    """Pods that still run on the node; empty once it is drained."""

    remaining: list[str]


class TokenRef(Model):
    """A bootstrap token by its id."""

    token_id: str


# --- fleet.py: other workflows, by Temporal's API


class EnsuredVm(Model):
    """``open`` is False where that VM's life is over already."""

    open: bool


class CheckOwner(Model):
    """Does the job for which this VM was bought still live?"""

    job: JobRef


class Owner(Model):
    """``alive``: its workflow is open, or its CR lives and was not finished."""

    alive: bool
    reason: str = ""


class SweepRequest(Model):
    """Look for VMs of this cluster that no open workflow owns."""

    cluster_id: str


class Orphan(Model):
    """A VM whose workflow is not open."""

    start: VmStart
    names: list[str]


class Orphans(Model):
    """``seen`` counts all VMs of the cluster, so that many orphans at once can be told from a few."""

    orphans: list[Orphan]
    seen: int
    unreadable: list[str] = []  # projects that could not be listed, with the reason


# --- status.py


class WriteStatus(Model):
    """The whole status, applied server-side by one field manager; a missing or newer object is success."""

    job: JobRef
    status: SpotInstanceJobStatus


class WriteVmEntry(Model):
    """One entry of ``provisionedInstances``; None takes it away."""

    namespace: str
    vm_name: str
    name: str
    entry: ProvisionedInstance | None


class Emit(Model):
    """A Kubernetes Event on the SpotInstanceJob."""

    job: JobRef
    type: Literal["Normal", "Warning"] = "Normal"
    reason: str
    message: str
    at: datetime


LOAD_JOB = Signature("load_job", JobRef, JobDocument)
PATCH_SPEC = Signature("patch_spec", PatchSpec, Done)
TAKE_STOCK = Signature("take_stock", JobRef, Stock)
RELEASE_FINALIZERS = Signature("release_finalizers", ReleaseFinalizers, Done)

PREFLIGHT = Signature("preflight", PreflightRequest, Preflight, timeout=50)

FIND_CAPACITY = Signature("find_capacity", FindCapacity, Capacity, timeout=10)

CREATE_REPLICA = Signature("create_replica", CreateReplica, ReplicaView, timeout=10)
OBSERVE_REPLICA = Signature("observe_replica", ReplicaRef, ReplicaView, timeout=10)
STOP_REPLICA = Signature("stop_replica", StopReplica, ReplicaView, timeout=10)
SAVE_LOGS = Signature("save_logs", SaveLogs, SavedLog, timeout=30)
READ_PROGRESS = Signature("read_progress", ReadProgress, ProgressReading, timeout=10)

CREATE_CHECKPOINT = Signature("create_checkpoint", CreateCheckpoint, CheckpointView, timeout=3)
OBSERVE_CHECKPOINT = Signature("observe_checkpoint", CheckpointRef, CheckpointView, timeout=10)
DELETE_CHECKPOINT = Signature("delete_checkpoint", CheckpointRef, CheckpointView, timeout=10)

FIND_IMAGE = Signature("find_image", FindImage, FoundImage, timeout=60)
PIN_IMAGES = Signature("pin_images", PinImages, RestorePoint, timeout=20)
DELETE_IMAGES = Signature("delete_images", DeleteImages, DeletedImages, timeout=60)

FIND_STORED = Signature("find_stored", FindStored, FoundStored, timeout=60)

SAVE_OUTPUTS = Signature("save_outputs", SaveOutputs, SavedOutputs, timeout=60, heartbeat=20)

CREATE_VM = Signature("create_vm", CreateVm, VmOperation, timeout=60, queue=names.CREATES_QUEUE)
OBSERVE_CREATE = Signature("observe_create", ObserveCreate, CreateProgress, timeout=60, heartbeat=20)
OBSERVE_VM = Signature("observe_vm", VmRef, VmView)
DELETE_VM = Signature("delete_vm", VmRef, VmView, timeout=60)
READ_PRICE = Signature("read_price", ReadPrice, Price)
FIND_PREEMPTED = Signature("find_preempted", FindPreempted, Preempted, timeout=60)

START_JOIN = Signature("start_join", StartJoin, JoinProgress, timeout=60, heartbeat=20)
OBSERVE_JOIN = Signature("observe_join", StartJoin, JoinProgress, timeout=60, heartbeat=20)
REVOKE_TOKEN = Signature("revoke_token", TokenRef, Done)
PREPARE_NODE = Signature("prepare_node", PrepareNode, NodeView)
OBSERVE_NODE = Signature("observe_node", NodeRef, NodeReadiness)
CORDON_AND_DRAIN = Signature("cordon_and_drain", NodeRef, Drained)
DELETE_NODE = Signature("delete_node", NodeRef, NodeView)

ENSURE_VM = Signature("ensure_vm", VmStart, EnsuredVm)
CHECK_OWNER = Signature("check_owner", CheckOwner, Owner)
FIND_ORPHANS = Signature("find_orphans", SweepRequest, Orphans, timeout=60)
ADOPT_ORPHAN = Signature("adopt_orphan", VmStart, EnsuredVm)

ASK_MARKET = Signature("ask_market", AskMarket, Choice, timeout=20)
ASK_HAZARD = Signature("ask_hazard", AskHazard, Hazard, timeout=10)
TELL_MARKET = Signature("tell_market", TellMarket, Done, timeout=10)

WRITE_STATUS = Signature("write_status", WriteStatus, Done, timeout=10)
WRITE_VM_ENTRY = Signature("write_vm_entry", WriteVmEntry, Done, timeout=10)
EMIT = Signature("emit", Emit, Done, timeout=10)

ALL: list[Signature[Any, Any]] = [value for value in list(globals().values()) if isinstance(value, Signature)]
