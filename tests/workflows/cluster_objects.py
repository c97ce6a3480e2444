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
    zone: str | None = None
    place: str | None = None  # the label by which a Job was pinned before there was a machine


@dataclass
class Pod:
    """A pod of a replica, with the training of one member in it."""

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
    told: bool = False  # its training has got a SIGTERM

    @property
    def runs(self) -> bool:
        """True if its training's process runs, whatever the API server says."""
        return self.phase == "Running" and self.stopped_at is None

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
    gone_at: datetime | None = None
    suspended: bool = False
    suspended_by: str | None = None
    pods: dict[int, Pod] = field(default_factory=dict)  # by member
    latest: dict[int, Pod] = field(default_factory=dict)  # the last pod of each member, whether it exists or not
    # Members that get no other pod: theirs has ended, or was deleted. True if that is a failure.
    over: dict[int, bool] = field(default_factory=dict)

    @property
    def members(self) -> range:
        """Return the numbers of its members."""
        return range(self.request.members)

    @property
    def is_gang(self) -> bool:
        """True if several members train together."""
        return self.request.members > 1

    @property
    def pod(self) -> Pod | None:
        """Return the pod of its first member, or of its only one."""
        return self.pods.get(0)

    def add(self, member: int, pod: Pod) -> None:
        """Add the pod of a member."""
        self.pods[member] = self.latest[member] = pod

    @property
    def begun(self) -> bool:
        """True if the trainings of all members have started, whatever became of them."""
        started = [member for member, pod in self.latest.items() if pod.started_at is not None]
        return len(started) == len(self.members)

    @property
    def halted_at(self) -> datetime | None:
        """Return when the first member stopped. None if all run: then, and only then, they train."""
        return min((pod.stopped_at for pod in self.latest.values() if pod.stopped_at is not None), default=None)

    @property
    def trains(self) -> bool:
        """True if all members run. They train together, or not at all."""
        return self.begun and self.halted_at is None

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
