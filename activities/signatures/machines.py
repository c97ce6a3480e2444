"""Bought machines, from the create call to the Node, and the workflows that own them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

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
    namespace: str  # the SpotInstanceVM's, in which a credentials reference without a namespace points
    credentials: SecretReference | None = None
    labels: dict[str, str] = {}  # an instance without these belongs to somebody else: CONFLICT, never deleted
    instance_id: str | None = None
    # The placement policy of a gang, which is made before its first instance and goes with its last one.
    placement: str | None = Field(default=None, exclude_if=lambda name: name is None)


class CreateVm(Model):
    """Ask GCE for one instance. A retry is safe, because the request id is made of name and zone."""

    vm: VmRef
    spec: SpotInstanceVMSpec
    candidate: Candidate
    ssh_public_key_of: LocalReference | None = None  # Secret with ssh-privatekey; default: the installation's key


class VmOperation(Model):
    """The create operation; ``name`` is None if the instance existed already."""

    name: str | None


class ObserveCreate(Model):
    """Read the state of a create operation."""

    vm: VmRef
    operation: str | None


class CreateProgress(Model):
    """``error`` is one of api.errors if the operation failed; then it is done, and the instance absent or failed."""

    done: bool
    error: str | None = None
    message: str = ""
    scope: str = ""  # the metric of a quota
    vm: VmView


class ReadPrice(Model):
    """Read what a spot VM of this kind costs now in the candidate's region."""

    project: str
    candidate: Candidate
    namespace: str
    credentials: SecretReference | None = None


class FindPreempted(Model):
    """Find the operations by which the cloud preempted machines in these zones since a moment."""

    project: str
    zones: list[str]
    since: datetime
    namespace: str
    credentials: SecretReference | None = None


class Preempted(Model):
    """The preempted machines."""

    vms: list[PreemptedVm]


class StartJoin(Model):
    """Connect, verify the host key, copy the JoinConfiguration to the machine and start ``kubeadm join`` detached."""

    vm: VmRef
    spec: SpotInstanceVMSpec
    address: str
    job_id: str
    cluster_id: str
    provider_id: str
    namespace: str
    ssh_key: LocalReference | None = None
    token_lifetime: float = 1800  # seconds
    workflow: str = ""  # the owner's, for the Node's annotation
    reserved: bool = False  # only pods of node agents may come before the Node is prepared


class JoinProgress(Model):
    """What the machine says about its join. ``token_id`` is the id of its token, None if a Secret named one."""

    state: Literal["Unreachable", "Booting", "Running", "Joined", "Failed"]
    message: str = ""
    token_id: str | None = None
    fingerprint: dict[str, str] = {}


class NodeRef(Model):
    """A Node; with ``uid`` only that object, not one of the same name created later."""

    name: str
    uid: str | None = None


class NodeReadiness(Model):
    """The node and, if the GPU operator is installed, its validator pod there."""

    view: NodeView
    gpu_operator: bool = False
    validated: bool = False
    agent: AgentView | None = None  # None for a node that was not bought, or if the worker did not check


class PrepareNode(Model):
    """Set labels and annotations that a kubelet may not set itself: owner, zone, job."""

    node: NodeRef
    labels: dict[str, str]
    annotations: dict[str, str]
    reserved: bool = False  # cordon it: only pods of DaemonSets and of its buyer still come


class Drained(Model):
    """Pods that still run on the node; empty once it is drained."""

    remaining: list[str]


class TokenRef(Model):
    """A bootstrap token by its id."""

    token_id: str


class AnswerCertificates(Model):
    """Answer what the kubelet of a VM's Node asks for: the certificates that it shows to those who read its logs."""

    job: JobRef
    vm: VmRef


class EnsuredVm(Model):
    """``open`` is False if that VM's workflow has ended already."""

    open: bool


class CheckOwner(Model):
    """Ask whether the job for which this VM was bought still exists."""

    job: JobRef


class Owner(Model):
    """``alive`` is True if its workflow is open, or its object exists and has not finished."""

    alive: bool
    reason: str = ""


class LookAtVm(Model):
    """Look at everything that concerns a machine which serves its replica."""

    vm: VmRef
    node: NodeRef
    job: JobRef


class SeenVm(Model):
    """The instance, its Node, and its job; ``owner`` is None if nobody could be asked about that now."""

    vm: VmView
    node: NodeReadiness
    owner: Owner | None = None


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
LOOK_AT_VM = Signature("look_at_vm", LookAtVm, SeenVm, timeout=30)
CHECK_OWNER = Signature("check_owner", CheckOwner, Owner)
ADOPT_ORPHAN = Signature("adopt_orphan", VmStart, EnsuredVm)
