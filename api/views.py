"""Views: projections of objects of the outside world for workflows, with only the fields that decisions need."""

from typing import Literal

from pydantic import Field, field_serializer

from api.model import Model, Moment


class ContainerEnd(Model):
    """A container that has ended for good: no sidecar, and none that its kubelet starts again in its place."""

    name: str
    exit_code: int
    finished_at: Moment | None = None
    message: str | None = None  # the last words of the runtime or the program, shortened
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
    started_at: Moment | None = None  # when all containers had started
    finished_at: Moment | None = None
    exit_code: int | None = None  # of the first container that failed, else 0 once all have ended
    ends: list[ContainerEnd] = []  # those of its containers, and of the init container that failed
    reason: str | None = None  # why the kubelet ended it: DeadlineExceeded, Evicted …
    conditions: dict[str, str] = {}  # type → status, once any container has ended or the pod is being deleted
    waiting_reason: str | None = None  # ImagePullBackOff, CreateContainerError, Unschedulable …
    message: str | None = None

    @property
    def ended(self) -> bool:
        """True if all its containers have ended."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def undisturbed(self) -> bool:
        """True if it runs and nobody is taking it away."""
        return self.phase == "Running" and not self.deleting and not self.disrupted


def evicted_by_api(disruption: str | None) -> bool:
    """True if somebody asked the eviction API for the pod's end, as ``kubectl drain`` does."""
    return disruption is not None and disruption.startswith("EvictionByEvictionAPI")


class ReplicaView(Model):
    """The Job of one incarnation and its pods. ``pod`` is that of the first member; None if there is none."""

    job_name: str
    job_exists: bool = True
    job_uid: str | None = None
    job_failed: str | None = None  # the Job's Failed reason, if the controller ended it
    pod: PodView | None = None
    suspended: bool = False  # its controller makes no pod until somebody ends that
    suspended_by: str | None = None  # who suspended it after its creation, by the name that the API server uses
    queue: str | None = None  # the queue that its label names
    other_pods: dict[int, PodView] = Field(default={}, exclude_if=lambda pods: not pods)  # of further members, from 1

    @field_serializer("other_pods")
    def _without_defaults(self, pods: dict[int, PodView]):  # type: ignore[no-untyped-def]
        """Write only what is not as usual: there may be 256 of them, and each change of one brings all.

        With a return type, the schema would say that type instead of the fields that are written.
        """
        return {member: pod.model_dump(mode="json", exclude_defaults=True) for member, pod in pods.items()}

    @property
    def pods(self) -> dict[int, PodView]:
        """Return the pods that exist, by member."""
        return {**({0: self.pod} if self.pod else {}), **self.other_pods}

    @property
    def only_pod(self) -> PodView | None:
        """Return the pod of the only member. Whoever asks for it cannot work for several members yet."""
        assert not self.other_pods, "this works for a replica with one member only"
        return self.pod


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
    marked_at: Moment | None = None  # when the cloud gave its notice, by our agent's taint; None once it shuts down


class AgentView(Model):
    """The node agent on a node that was bought; ``reason`` and ``message`` say why it does not run."""

    running: bool
    reason: str = ""
    message: str = ""


ALIVE = frozenset({"PROVISIONING", "STAGING", "RUNNING", "STOPPING", "REPAIRING", "SUSPENDING"})
"""The statuses of an instance that may still run."""


class VmView(Model):
    """A GCE instance and the operation that creates it."""

    exists: bool
    name: str
    zone: str
    status: str | None = None  # PROVISIONING, STAGING, RUNNING, STOPPING, TERMINATED …
    instance_id: str | None = None
    internal_ip: str | None = None
    external_ip: str | None = None
    creation_time: Moment | None = None
    labels: dict[str, str] = {}

    @property
    def stopped(self) -> bool:
        """True if the instance does not exist, or no longer runs."""
        return not self.exists or self.status not in ALIVE


class CheckpointView(Model):
    """A CheckpointBackup."""

    name: str
    exists: bool = True
    uid: str | None = None
    phase: str | None = None
    message: str | None = None
    images: dict[str, str] = {}  # container → what to pull; only images that were pushed
    tag: str | None = None  # that of the requested images
    progress: float | None = None  # the training's when it was requested
    reported: bool = False  # the progress is the training's own figure, not seconds

    @property
    def ended(self) -> bool:
        """True if the operator will not change it any more."""
        return self.phase in {"Completed", "CompletedPodDeleted", "CompletedWithError", "Failed"}

    def usable(self, containers: list[str]) -> bool:
        """True if every requested container has an image that was pushed."""
        done = self.phase in {"Completed", "CompletedPodDeleted"}
        return done and all(name in self.images for name in containers)


class RestorePoint(Model):
    """Something that a replica can start from."""

    kind: Literal["Image", "Storage"] = "Image"
    images: dict[str, str] = {}  # container → reference; with its digest once resolved
    path: str | None = None  # for kind Storage: the prefix in the bucket
    progress: float
    reported: bool = False  # progress is the training's own figure, not seconds
    seconds: float = 0  # training time in it, over all machines of its lineage
    lineage: str = ""  # "<replica>.<incarnation>" that it was made of
    created_at: Moment
    fingerprint: dict[str, str] = {}
    checkpoint: int | None = None  # number of its CheckpointBackup, if this run requested that
    told_to_end: bool = False  # its process may have been told to end before it was dumped
    proven: bool = False
    failed_on: list[str] = []  # nodes on which it was pulled and did not start

    @property
    def pinned(self) -> bool:
        """True if each of its images has its digest."""
        return all("@" in image for image in self.images.values())

    @property
    def label(self) -> str:
        """Name it for people: the image with its tag."""
        return next(iter(self.images.values()), self.path or "")
