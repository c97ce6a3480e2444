"""Jobs and pods of ours, seen together as replicas: phase, node, exit, what it waits for, deletion, gone.

Two watches know nothing of each other's order, so a view is told only when it can be true of both.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from api import names
from api.messages import ReplicaChanged
from api.projections import is_mirror, replica_view
from api.queues import is_suspended
from api.views import ReplicaView
from clients.kube import Json
from crd_bridge.checkpoints import owner
from crd_bridge.queues import Queues
from crd_bridge.temporal import Gateway

JOB_DELAY = 2.0  # seconds for a pod's Job to be seen, too, before it counts as gone
YOUNG = 5.0  # seconds in which a Job is not yet expected to have a pod


@dataclass(frozen=True)
class Replica:
    """One incarnation of a replica."""

    workflow: str
    job_id: str
    replica: int
    incarnation: int


@dataclass
class Objects:
    """What is known of a replica, and what its workflow was told."""

    job_name: str
    since: float  # monotonic, of the first object of it
    job: Json | None = None
    job_seen: bool = False
    pods: dict[str, Json] = field(default_factory=dict)
    version: int = 0
    told: tuple[object, ...] | None = None


class Replicas:
    """All Jobs and pods with a job's label. ``moved`` is told each node on which a pod came or went."""

    def __init__(self, gateway: Gateway, queues: Queues, moved: Callable[[str], None]) -> None:
        self._gateway = gateway
        self._queues = queues
        self._moved = moved
        self._replicas: dict[Replica, Objects] = {}
        self._of: dict[tuple[str, str], Replica] = {}  # (kind, key) → whose it is
        self._nodes: dict[str, dict[str, str]] = {}  # node → pod's key → workflow

    def on(self, node: str) -> set[str]:
        """Workflows with a pod on this node, ended ones included: the verdict on an exit asks about its node."""
        return set(self._nodes.get(node, {}).values())

    def job_changed(self, key: str, item: Json | None, version: int) -> None:
        """A Job changed or, without ``item``, is gone."""
        replica = self._whose("job", key, item)
        if replica is None:
            return
        objects = self._objects(replica, key if item is None else item["metadata"]["name"])
        objects.job = _slim(item) if item else None
        objects.job_seen = True
        self._put(replica, version)

    def pod_changed(self, key: str, item: Json | None, version: int) -> None:
        """A pod changed or, without ``item``, is gone."""
        replica = self._whose("pod", key, item)
        if replica is None:
            return
        node = ((item or {}).get("spec") or {}).get("nodeName")
        self._place(key, node, replica.workflow)
        objects = self._objects(replica, _job_name(item) if item else "")
        if item is None:
            objects.pods.pop(key, None)
        else:
            objects.pods[key] = _slim(item)
        self._put(replica, version)

    def _whose(self, kind: str, key: str, item: Json | None) -> Replica | None:
        if item is None:
            return self._of.pop((kind, key), None)
        if kind == "pod" and is_mirror(item):
            return None
        workflow, job_id = owner(item)
        numbers = names.incarnation_in(item["metadata"].get("labels") or {})
        if not workflow or numbers is None:
            return None
        replica = self._of[kind, key] = Replica(workflow, job_id, *numbers)
        return replica

    def _objects(self, replica: Replica, job_name: str) -> Objects:
        return self._replicas.setdefault(replica, Objects(job_name=job_name, since=time.monotonic()))

    def _place(self, key: str, node: str | None, workflow: str) -> None:
        was = next((name for name, pods in self._nodes.items() if key in pods), None)
        if was == node:
            return
        if was is not None:
            del self._nodes[was][key]
            if not self._nodes[was]:
                del self._nodes[was]
            self._moved(was)
        if node is not None:
            self._nodes.setdefault(node, {})[key] = workflow
            self._moved(node)

    def _put(self, replica: Replica, version: int) -> None:
        objects = self._replicas[replica]
        # The later of two watches may bring the lower version; the workflow takes only what grows.
        objects.version = max(version, objects.version + 1)
        self._queues.put(("replica", replica), partial(self._tell, replica))

    async def _tell(self, replica: Replica) -> float | None:
        objects = self._replicas.get(replica)
        if objects is None:
            return None
        if objects.pods and not objects.job_seen and time.monotonic() - objects.since < JOB_DELAY:
            return JOB_DELAY
        view, version = replica_view(objects.job_name, objects.job, objects.pods.values()), objects.version
        projection = _projection(view)
        if projection != objects.told and not self._only_just_made(objects):
            message = ReplicaChanged(
                job_id=replica.job_id,
                replica=replica.replica,
                incarnation=replica.incarnation,
                version=version,
                view=view,
            )
            await self._gateway.signal(replica.workflow, "replica_changed", message)
            objects.told = projection
        # What came while that was told waits its turn: the end of a replica above all.
        if objects.version == version and objects.job is None and not objects.pods:
            self._replicas.pop(replica, None)
        return None

    def _only_just_made(self, objects: Objects) -> bool:
        """A Job without a pod whose workflow made it this moment and needs no telling."""
        return (
            objects.job is not None
            and not objects.pods
            and objects.told is None
            and _projection(replica_view(objects.job_name, objects.job, ())) == NEW_JOB
            and time.monotonic() - objects.since < YOUNG
        )


def _projection(view: ReplicaView) -> tuple[object, ...]:
    """What of a view decides something."""
    job = (view.job_exists, view.job_failed, view.suspended, view.suspended_by)
    pod = view.pod
    if pod is None:
        return job
    started, ends = pod.started_at is not None, tuple((end.name, end.exit_code) for end in pod.ends)
    seen = (pod.uid, pod.phase, pod.node, pod.deleting, pod.disrupted, started, pod.exit_code, pod.waiting_reason)
    return (*job, *seen, pod.reason, ends)


NEW_JOB = _projection(ReplicaView(job_name=""))


def _job_name(pod: Json) -> str:
    labels = pod["metadata"].get("labels") or {}
    owners: Iterable[Json] = pod["metadata"].get("ownerReferences") or []
    named = next((each["name"] for each in owners if each.get("kind") == "Job"), "")
    return str(labels.get("batch.kubernetes.io/job-name") or named)


def _slim(item: Json) -> Json:
    """What the projections read: of thousands of pods the rest would fill the memory."""
    kept = ["name", "uid", "creationTimestamp", "deletionTimestamp"]
    if is_suspended(item):
        kept += ["labels", "managedFields"]  # they say by whom
    spec = item.get("spec") or {}
    again = [
        {key: each[key] for key in ("name", "restartPolicy", "restartPolicyRules") if key in each}
        for each in spec.get("containers") or []
        if "restartPolicy" in each
    ]
    return {
        "metadata": {key: value for key, value in item["metadata"].items() if key in kept},
        "spec": {key: spec[key] for key in ("nodeName", "initContainers", "suspend") if key in spec}
        | {"containers": again},
        "status": item.get("status") or {},
    }
