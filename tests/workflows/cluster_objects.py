"""The objects of the world's cluster: nodes, the Jobs of replicas, their pods."""

from dataclasses import dataclass, field
from datetime import datetime

from activities import signatures as act
from api.queues import QUEUE_LABEL
from api.views import ContainerEnd, PodView


@dataclass
class Node:
    """A node of the cluster. ``owner`` is the job id in its taint, ``strangers`` are pods that have a GPU each."""

    name: str
    uid: str
    gpus: int = 1
    ready: bool = True
    owner: str | None = None
    workflow: str | None = None
    marks: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)  # the conditions of its health that make it unfit
    marked_at: datetime | None = None  # when the node agent marked it
    alive: bool = True  # its machine runs
    joining: bool = False  # it has our taint, which goes once it is cordoned
    cordoned: bool = False
    strangers: list[str] = field(default_factory=list)
    place: str | None = None  # the label by which a Job was pinned before there was a machine


@dataclass
class Pod:
    """A replica's pod with the training in it."""

    name: str
    uid: str
    phase: str = "Pending"
    node: str | None = None
    deleting: bool = False
    disrupted: bool = False
    disruption: str | None = None  # the words of whoever disrupts it
    started_at: datetime | None = None
    stopped_at: datetime | None = None  # when its process ended, whatever the API server says
    exit_code: int | None = None
    ends: list[ContainerEnd] = field(default_factory=list)  # ends of containers beside which others may run on
    reason: str | None = None  # why the kubelet ended it
    conditions: dict[str, str] = field(default_factory=dict)
    waiting_reason: str | None = None
    message: str | None = None
    stands_at: float | None = None  # the step at which its training stalls
    base: float = 0  # steps in the memory that it started from

    @property
    def view(self) -> PodView:
        """Return it as a workflow sees it."""
        return PodView(
            name=self.name,
            uid=self.uid,
            phase=self.phase,
            node=self.node,
            deleting=self.deleting,
            disrupted=self.disrupted,
            disruption=self.disruption,
            started_at=self.started_at,
            finished_at=self.stopped_at if self.exit_code is not None else None,
            exit_code=self.exit_code,
            ends=self.ends,
            reason=self.reason,
            conditions=self.conditions,
            waiting_reason=self.waiting_reason,
            message=self.message,
        )


@dataclass
class Job:
    """The Job of one incarnation."""

    request: act.CreateReplica
    name: str
    uid: str
    created_at: datetime
    deleting: bool = False
    failed: str | None = None
    pod: Pod | None = None
    gone_at: datetime | None = None
    suspended: bool = False
    suspended_by: str | None = None

    @property
    def queue(self) -> str | None:
        """Return the queue that its label names."""
        metadata = self.request.job_template.get("metadata") or {}
        labels = self.request.labels | (metadata.get("labels") or {})
        return labels.get(QUEUE_LABEL)

    @property
    def image(self) -> str:
        """Return the image of its first container, as the template has it."""
        containers = self.request.job_template.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        return str(containers[0]["image"]) if containers else ""

    @property
    def key(self) -> tuple[int, int]:
        return self.request.replica, self.request.incarnation
