"""What of the outside world a workflow sees: projections of objects, no more than decisions need."""

from datetime import datetime
from typing import Literal

from api.model import Model


class ContainerEnd(Model):
    """A container that has ended for good: no sidecar, and none that its kubelet starts again in its place."""

    name: str
    exit_code: int
    finished_at: datetime | None = None
    message: str | None = None  # the runtime's or the program's last words, shortened
    init: bool = False  # an init container


class PodView(Model):
    """A replica's pod."""

    name: str
    uid: str
    phase: str  # Pending, Running, Succeeded, Failed
    node: str | None = None
    deleting: bool = False
    disrupted: bool = False  # DisruptionTarget, or reason Terminated, Evicted, NodeShutdown …
    disruption: str | None = None  # "REASON: message" of that
    started_at: datetime | None = None  # the containers run
    finished_at: datetime | None = None
    exit_code: int | None = None  # of the first container that ended otherwise than 0, else 0 once all have ended
    ends: list[ContainerEnd] = []  # of its containers, and of the init container that failed
    reason: str | None = None  # why the kubelet ended it: DeadlineExceeded, Evicted …
    conditions: dict[str, str] = {}  # type → status, once any container has ended or the pod is being deleted
    waiting_reason: str | None = None  # ImagePullBackOff, CreateContainerError, Unschedulable …
    message: str | None = None


def evicted_by_api(disruption: str | None) -> bool:
    """True if somebody asked the eviction API for the pod's end, as ``kubectl drain`` does."""
    return disruption is not None and disruption.startswith("EvictionByEvictionAPI")


class ReplicaView(Model):
    """The Job of one incarnation and its pod; ``pod`` is None where there is none."""

    job_name: str
    job_exists: bool = True
    job_uid: str | None = None
    job_failed: str | None = None  # the Job's Failed reason, where the controller ended it
    pod: PodView | None = None
    suspended: bool = False  # its controller makes no pod until somebody takes that back
    suspended_by: str | None = None  # who did that after it was created, as the API server calls them
    queue: str | None = None  # that its label names


class NodeView(Model):
    """A node of the cluster."""

    name: str
    exists: bool = True
    uid: str | None = None
    ready: bool = False
    schedulable: bool = True
    gpus: int = 0  # allocatable nvidia.com/gpu
    marks: list[str] = []  # taints and conditions that announce its end, or say that it is broken
    unfit: list[str] = []  # conditions because of which nothing is started there
    marked_at: datetime | None = None  # when the cloud gave its notice, by our agent's mark; None once it shuts down


class AgentView(Model):
    """The node agent on a node that was bought; ``reason`` and ``message`` say why it does not run."""

    running: bool
    reason: str = ""
    message: str = ""


class VmView(Model):
    """A GCE instance and the operation that creates it."""

    exists: bool
    name: str
    zone: str
    status: str | None = None  # PROVISIONING, STAGING, RUNNING, STOPPING, TERMINATED …
    instance_id: str | None = None
    internal_ip: str | None = None
    external_ip: str | None = None
    creation_time: datetime | None = None
    labels: dict[str, str] = {}


class CheckpointView(Model):
    """A CheckpointBackup."""

    name: str
    exists: bool = True
    uid: str | None = None
    phase: str | None = None
    message: str | None = None
    images: dict[str, str] = {}  # container → what to pull, only those that were pushed
    tag: str | None = None  # of the images asked for
    progress: float | None = None  # of the training when it was asked for
    reported: bool = False  # the progress is the training's own figure, not seconds

    @property
    def ended(self) -> bool:
        """The operator will not change it any more."""
        return self.phase in {"Completed", "CompletedPodDeleted", "CompletedWithError", "Failed"}

    def usable(self, containers: list[str]) -> bool:
        """Every container asked for has an image that was pushed."""
        done = self.phase in {"Completed", "CompletedPodDeleted"}
        return done and all(name in self.images for name in containers)


class RestorePoint(Model):
    """Something that a replica can start from."""

    kind: Literal["Image", "Storage"] = "Image"
    images: dict[str, str] = {}  # container → reference; with its digest once resolved
    path: str | None = None  # of kind Storage: the prefix in the bucket
    progress: float
    reported: bool = False  # progress is the training's own figure, not seconds
    seconds: float = 0  # of training in it, over all machines that its lineage was on
    lineage: str = ""  # "<replica>.<incarnation>" that it was taken from
    created_at: datetime
    fingerprint: dict[str, str] = {}
    checkpoint: int | None = None  # number of the CheckpointBackup that it came of, where this run asked for it
    told_to_end: bool = False  # its process may have been told to end before it was dumped
    proven: bool = False
    failed_on: list[str] = []  # nodes where it was pulled and did not start

    @property
    def pinned(self) -> bool:
        """Each of its images has its digest."""
        return all("@" in image for image in self.images.values())

    @property
    def label(self) -> str:
        """How people call it: the image with its tag."""
        return next(iter(self.images.values()), self.path or "")
