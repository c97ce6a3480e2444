"""Signals: what the bridge, people and the workflows tell each other.

Each message about an object carries the object's UID or job id and its version; unknown or older ones are dropped.
A signal that a program of a later version sends is not a person's mistake: such names end with one of ``PROGRAMS``.
"""

from typing import Any, Literal

from pydantic import Field

from api import reasons
from api.common import LocalReference, SecretReference
from api.market import Candidate, VmRequest
from api.model import Model, Moment
from api.spot_instance_vm import SpotInstanceVMSpec
from api.timings import Timings
from api.views import AgentView, CheckpointView, NodeView, ReplicaView

PROGRAMS = ("_changed", "_asked")
"""How the names of all signals end that programs alone send, those of later versions included."""


class JobStart(Model):
    """Input of the workflow ``SpotInstanceJob``."""

    namespace: str
    name: str
    uid: str
    cluster_id: str
    job_id: str
    state: dict[str, Any] | None = None  # the previous run's, after continue-as-new; the workflow's own


class SpecChanged(Model):
    """The SpotInstanceJob or something it names was edited."""

    uid: str
    generation: int
    vm_generation: int = 0  # that of the SpotInstanceVM, if it was edited


class RequestChanged(Model):
    """The request annotation of the SpotInstanceJob is another one: it is to be read."""

    uid: str


class ReplicaChanged(Model):
    """A replica's Job or pod. ``version`` is the changed object's resourceVersion."""

    job_id: str
    replica: int
    incarnation: int
    version: int
    view: ReplicaView


class CheckpointChanged(Model):
    """A CheckpointBackup of this job."""

    job_id: str
    version: int
    view: CheckpointView


class NodeChanged(Model):
    """A node on which this job has a replica or a VM."""

    version: int
    view: NodeView


class CertificateAsked(Model):
    """The kubelet of a VM's Node asks for a serving certificate."""

    node: str


class PreemptionNotice(Model):
    """A machine is about to go, named by node or by replica; a second notice of the same changes nothing."""

    node: str | None = Field(default=None, description="name of the node that is about to go")
    replica: int | None = Field(default=None, description="or the index of the replica on it")
    source: str = "person"
    seconds: float | None = Field(default=None, description="how long it has left, if known")
    at: Moment | None = Field(default=None, description="when the cloud gave its notice, by the node agent's mark")


class NodeNotice(PreemptionNotice):
    """A notice that the bridge reads from a Node, with that Node as it is then, so that one message says both."""

    view: NodeView | None = None
    version: int = 0  # the Node's resourceVersion


class Shutdown(Model):
    """The SpotInstanceJob is being deleted."""

    uid: str
    reason: str = reasons.DELETED


class Resize(Model):
    """A person asks for another number of replicas."""

    replicas: int = Field(ge=1, le=16)


class VmStart(Model):
    """Input of the workflow ``SpotVM``: everything that it needs, even when its job is gone."""

    key: str
    cluster_id: str
    job_id: str
    replica: int
    namespace: str
    job_name: str
    job_uid: str
    vm_name: str  # the SpotInstanceVM's
    spec: SpotInstanceVMSpec
    credentials: SecretReference | None = None
    ssh_key: LocalReference | None = None
    timings: Timings = Timings()
    request: VmRequest = Field(VmRequest(), alias="wish")
    # Of a gang that is to be placed compactly: the name of its placement policy.
    placement: str | None = Field(default=None, exclude_if=lambda name: name is None)
    teardown: bool = False  # started by the sweep, or by a teardown from an inventory: nothing is created
    found: list[str] = []  # "zone/name" of instances to tear down that this run did not create
    state: dict[str, Any] | None = None  # the previous run's, after continue-as-new; the workflow's own


Stage = Literal["Creating", "Booting", "Joining", "Registering", "Ready", "Noticed", "Lost", "Deleting", "Gone"]
"""Stages of a VM."""

JOINING: frozenset[Stage] = frozenset({"Booting", "Joining", "Registering"})
"""The stages between the instance and its Ready Node."""


IN_VAIN = frozenset(
    {reasons.JOIN_FAILED, reasons.BOOTING_TIMEOUT, reasons.JOINING_TIMEOUT, reasons.REGISTERING_TIMEOUT}
)
"""Reasons of a VM that ran, and was paid for, but did not become a node that takes a replica."""


class VmReport(Model):
    """What a VM's workflow reports to its job. ``at`` and, in one run, ``number`` grow; older reports are dropped."""

    key: str
    number: int
    stage: Stage
    reason: str = ""
    message: str = ""
    vm_name: str | None = None
    zone: str | None = None
    node_name: str | None = None
    dead: bool = False  # the machine is confirmed not to run any more
    fingerprint: dict[str, str] = {}
    candidate: Candidate | None = None  # the one that is or was tried
    price: float | None = None  # its price in USD per hour
    why: str = ""  # why this candidate was chosen
    at: Moment | None = None
    notice_seconds: float = 0  # between a preemption's notice and the soft off, as it was bought
    ends_at: Moment | None = None  # when it is shut down, where its notice says so
    agent: AgentView | None = None  # of a Ready node whose node agent has not run for too long


class VmRelease(Model):
    """The job releases a VM; idempotent."""

    reason: str
