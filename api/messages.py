"""Signals: what the bridge, people and the workflows tell each other.

Each message about an object carries the object's UID or job id and its version; unknown or older ones are dropped.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.common import LocalReference, SecretReference
from api.market import Candidate, VmWish
from api.model import Model
from api.spot_instance_vm import SpotInstanceVMSpec
from api.timings import Timings
from api.views import AgentView, CheckpointView, NodeView, ReplicaView


class JobStart(Model):
    """Input of the workflow ``SpotInstanceJob``."""

    namespace: str
    name: str
    uid: str
    cluster_id: str
    job_id: str
    state: dict[str, Any] | None = None  # of the run before, after continue-as-new; the workflow's own


class SpecChanged(Model):
    """The SpotInstanceJob or something it names was edited."""

    uid: str
    generation: int
    vm_generation: int = 0  # of the SpotInstanceVM, where that was edited


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
    """A machine is about to go. Named by node or by replica; the second notice of the same changes nothing."""

    node: str | None = Field(default=None, description="name of the node that is going")
    replica: int | None = Field(default=None, description="or the index of the replica on it")
    source: str = "person"
    seconds: float | None = Field(default=None, description="how long it has left, where known")
    at: datetime | None = Field(default=None, description="when the cloud gave its notice, by the node agent's mark")


class Shutdown(Model):
    """The SpotInstanceJob is being deleted."""

    uid: str
    reason: str = "Deleted"


class Resize(Model):
    """A person asks for another number of replicas."""

    replicas: int = Field(ge=1, le=16)


class VmStart(Model):
    """Input of the workflow ``SpotVM``: everything that its life needs, also when its job is gone."""

    key: str
    cluster_id: str
    job_id: str
    replica: int
    namespace: str
    job_name: str
    job_uid: str
    vm_name: str  # of the SpotInstanceVM
    spec: SpotInstanceVMSpec
    credentials: SecretReference | None = None
    ssh_key: LocalReference | None = None
    timings: Timings = Timings()
    wish: VmWish = VmWish()
    teardown: bool = False  # started by the sweep or by a teardown that took stock: nothing is created
    found: list[str] = []  # "zone/name" of instances to tear down where this run did not create them
    state: dict[str, Any] | None = None  # of the run before, after continue-as-new; the workflow's own


Stage = Literal["Creating", "Booting", "Joining", "Registering", "Ready", "Noticed", "Lost", "Deleting", "Gone"]
"""Of a VM's life."""


IN_VAIN = frozenset({"JoinFailed", "BootingTimeout", "JoiningTimeout", "RegisteringTimeout"})
"""Reasons of a VM that ran, and was paid for, and did not become a node that takes a replica."""


class VmReport(Model):
    """What a VM's workflow tells its job. ``at`` and, in one life, ``number`` grow; older reports are dropped."""

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
    candidate: Candidate | None = None  # that was or is being tried
    price: float | None = None  # of it, in USD per hour
    why: str = ""  # this candidate
    at: datetime | None = None
    notice_seconds: float = 0  # between a preemption's notice and the soft off, as it was bought
    ends_at: datetime | None = None  # when it is shut down, where its notice says so
    agent: AgentView | None = None  # of a Ready node whose node agent has not run for too long


class VmRelease(Model):
    """The job lets go of a VM; idempotent."""

    reason: str
