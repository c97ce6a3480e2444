"""What is remembered for checkpoints: the pods of replicas that run, and the checkpoints under way on each node."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from activities.signatures import CreateCheckpoint
from api import names
from api.projections import checkpoint_view, is_mirror
from clients.informer import Kind
from clients.kube import Json, selector
from clients.watch import Resource

API_VERSION = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
WORK = timedelta(seconds=1200)
"""Age after which a CheckpointBackup no longer occupies its node: the operator's own client gives up then."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a CheckpointBackup was made for: an incarnation, and the moment of the request, which no retry changes."""

    job_id: str
    incarnation: tuple[int, int]
    unix: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A CheckpointBackup that has not ended."""

    namespace: str
    name: str
    node: str
    pod: str
    created: datetime
    purpose: Purpose | None

    @property
    def occupies(self) -> bool:
        """True if its node is at work on it."""
        return datetime.now(UTC) - self.created < WORK


def made_for(backup: Json) -> Purpose | None:
    """Read for which request it was made; None if it does not say."""
    metadata = backup["metadata"]
    labels, tag = metadata.get("labels") or {}, (metadata.get("annotations") or {}).get(names.ANNOTATION_TAG, "")
    incarnation, parsed = names.incarnation_in(labels), names.parse_image_tag(tag)
    if incarnation is None or parsed is None or labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
        return None
    return Purpose(labels.get(names.LABEL_JOB, ""), incarnation, parsed[2])


def purpose_of(request: CreateCheckpoint) -> Purpose:
    """Say what a request's CheckpointBackup is made for."""
    return Purpose(request.job.job_id, (request.replica, request.incarnation), request.unix)


def under_way(backup: Json) -> UnderWay | None:
    """Read a CheckpointBackup; None if it has ended, or does not say on which node it is."""
    metadata = backup["metadata"]
    node = (metadata.get("annotations") or {}).get(names.ANNOTATION_NODE)
    if not node or "deletionTimestamp" in metadata or checkpoint_view(backup).ended:
        return None
    return UnderWay(
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=node,
        pod=((backup.get("spec") or {}).get("podRef") or {}).get("name", ""),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        purpose=made_for(backup),
    )


def runs(pod: Json) -> bool:
    """True if the pod's containers run and are not being stopped."""
    return (pod.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


@dataclass(frozen=True, slots=True)
class Running:
    """A replica's pod that runs: whose it is, and of the object what a checkpoint and the reading of a log need."""

    whose: str
    pod: Json


def whose(namespace: str, job_id: str, incarnation: tuple[int, int]) -> str:
    """Make a key of an incarnation."""
    return f"{namespace}/{job_id}/{incarnation[0]}/{incarnation[1]}"


def _running(pod: Json) -> Running | None:
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    incarnation = names.incarnation_in(labels)
    if incarnation is None or not runs(pod) or is_mirror(pod):
        return None
    kept = {key: metadata[key] for key in ("name", "namespace", "creationTimestamp")}
    if restored := (metadata.get("annotations") or {}).get(names.ANNOTATION_RESTORED_FROM):
        kept["annotations"] = {names.ANNOTATION_RESTORED_FROM: restored}
    containers = [{"name": each["name"]} for each in pod["spec"]["containers"]]
    spec = {"nodeName": pod["spec"]["nodeName"], "containers": containers}
    key = whose(metadata["namespace"], labels[names.LABEL_JOB], incarnation)
    return Running(key, {"metadata": kept, "spec": spec})


RUNNING = Kind(
    "pods of replicas", Resource("v1", "pods", selector({names.LABEL_JOB: None})), _running, lambda pod: pod.whose
)
UNDER_WAY = Kind(
    "checkpoints",
    Resource(API_VERSION, names.CHECKPOINT_PLURAL, selector({names.LABEL_MANAGED_BY: names.MANAGED_BY})),
    under_way,
    lambda backup: backup.node,
)
