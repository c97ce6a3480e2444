"""Bought machines, from the create call to the Node, and the workflows that own them."""

from datetime import datetime
from typing import Literal

from activities.signatures.base import Done, JobRef, Signature
from api import names
from api.common import LocalReference, SecretReference
from api.market import Candidate, PreemptedVm, Price
from api.messages import VmStart
from api.model import Model
from api.spot_instance_vm import SpotInstanceVMSpec
from api.views import AgentView, NodeView, VmView


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
    token_lifetime: float = 1800  # seconds
    workflow: str = ""  # of the owner, for the Node's annotation
    reserved: bool = False  # no pod but those of node agents may come before the Node is prepared


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
    agent: AgentView | None = None  # None of a node that was not bought, and from a worker that did not look


class PrepareNode(Model):
    """Labels and annotations that a kubelet may not set itself: owner, zone, job."""

    node: NodeRef
    labels: dict[str, str]
    annotations: dict[str, str]
    reserved: bool = False  # cordon it: DaemonSets' pods and its buyer's still come, others do not


class Drained(Model):
    """Pods that still run on the node; empty once it is drained."""

    remaining: list[str]


class TokenRef(Model):
    """A bootstrap token by its id."""

    token_id: str


class AnswerCertificates(Model):
    """Answer what the kubelet of a VM's Node asks for: certificates that it shows to whoever reads logs from it."""

    job: JobRef
    vm: VmRef


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


CREATE_VM = Signature("create_vm", CreateVm, VmOperation, timeout=60, queue=names.CREATES_QUEUE)
OBSERVE_CREATE = Signature("observe_create", ObserveCreate, CreateProgress, timeout=60, heartbeat=20)
OBSERVE_VM = Signature("observe_vm", VmRef, VmView)
DELETE_VM = Signature("delete_vm", VmRef, VmView, timeout=60)
READ_PRICE = Signature("read_price", ReadPrice, Price)
FIND_PREEMPTED = Signature("find_preempted", FindPreempted, Preempted, timeout=60)

START_JOIN = Signature("start_join", StartJoin, JoinProgress, timeout=60, heartbeat=20)
OBSERVE_JOIN = Signature("observe_join", StartJoin, JoinProgress, timeout=60, heartbeat=20)
REVOKE_TOKEN = Signature("revoke_token", TokenRef, Done)
ANSWER_CERTIFICATES = Signature("answer_certificates", AnswerCertificates, Done)
PREPARE_NODE = Signature("prepare_node", PrepareNode, NodeView)
OBSERVE_NODE = Signature("observe_node", NodeRef, NodeReadiness)
CORDON_AND_DRAIN = Signature("cordon_and_drain", NodeRef, Drained)
DELETE_NODE = Signature("delete_node", NodeRef, NodeView)

ENSURE_VM = Signature("ensure_vm", VmStart, EnsuredVm)
CHECK_OWNER = Signature("check_owner", CheckOwner, Owner)
ADOPT_ORPHAN = Signature("adopt_orphan", VmStart, EnsuredVm)
