"""Jobs and pods of ours, seen together as replicas: phase, node, exit, what it waits for, deletion, gone.

Two watches do not know each other's order, so a view is only reported when it can be true of both.
"""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from api import names
from api.messages import ReplicaChanged
from api.projections import (
    Rank,
    is_indexed,
    is_mirror,
    member_in,
    no_job,
    pod_rank,
    pod_view,
    replica_view,
    with_pods,
)
from api.views import PodView, ReplicaView
from clients.kube import Json
from crd_bridge.checkpoints import owner
from crd_bridge.queues import Queues
from crd_bridge.reported import Reported, Version
from crd_bridge.temporal import Gateway

PODS, JOBS = "pods", "jobs"
Moved = Callable[[str, Version], None]
"""Called with a node on which a pod came or went, and the pod's version."""

JOB_DELAY = 2.0  # seconds for a pod's Job to be seen as well, before it counts as gone
PAUSE_PER_POD = 0.005
"""Seconds between two reports of a gang, for each of its pods: a report has all of them, so that 256 pods that start
one after the other would fill a history with 256 times 256 views."""

YOUNG = 5.0  # seconds in which a Job is not yet expected to have a pod


@dataclass(frozen=True, slots=True)
class Replica:
    """One incarnation of a replica."""

    workflow: str
    job_id: str
    replica: int
    incarnation: int

    @property
    def job_name(self) -> str:
        """Name the Job that its workflow makes."""
        name = self.workflow.partition("/")[2]
        return names.replica_job_name(name, self.job_id, self.replica, self.incarnation)


class Pod(NamedTuple):
    """What is kept of a pod: its place among pods of the same member, whose it is, and its view."""

    rank: Rank
    member: int
    view: bytes


@dataclass(slots=True)
class Objects:
    """What is known of a replica, and what its workflow was told. Views are kept as JSON, in a tenth of the memory."""

    job_name: str
    since: float  # monotonic time of its first object
    job: bytes | None = None  # the view of the Job alone
    job_seen: bool = False
    gang: bool | None = None  # whether the Job has a pod for each index; None: it was not seen
    pods: dict[str, Pod] = field(default_factory=dict)  # by key
    version: int = 0
    told: int | None = None  # hash of the projection that was reported
    told_at: float = 0.0  # monotonic time of that
    news: bool = False  # something has changed since this bridge began

    def view(self) -> ReplicaView:
        """Put the views of the Job and of the pods that count together."""
        view = ReplicaView.model_validate_json(self.job) if self.job else no_job(self.job_name)
        counting: dict[int, bytes] = {}
        for pod in sorted(self.pods.values(), key=attrgetter("rank")):
            counting[0 if self.gang is False else pod.member] = pod.view
        return with_pods(view, {member: PodView.model_validate_json(pod) for member, pod in counting.items()})


class Replicas:
    """All Jobs and pods with a job's label."""

    def __init__(self, gateway: Gateway, queues: Queues, moved: Moved, reported: Reported) -> None:
        self._gateway = gateway
        self._queues = queues
        self._moved = moved
        self._reported = reported
        self._replicas: dict[Replica, Objects] = {}
        self._of: dict[tuple[str, str], Replica] = {}  # (plural, key) → its replica
        self._places: dict[str, str] = {}  # pod's key → its node
        self._nodes: dict[str, dict[str, tuple[str, bool]]] = {}  # node → pod's key → workflow, and if it is known

    def on(self, node: str) -> dict[str, bool]:
        """List the workflows with a pod on this node, even an ended one: the verdict on an exit asks about its node.

        The value is True if the pod was reported before this bridge began.
        """
        here: dict[str, bool] = {}
        for workflow, known in self._nodes.get(node, {}).values():
            here[workflow] = known or here.get(workflow, False)
        return here

    def job_changed(self, key: str, item: Json | None, version: int) -> None:
        """Report that a Job changed or, without ``item``, is gone."""
        replica = self._whose(JOBS, key, item)
        if replica is None:
            return
        objects = self._objects(replica, key if item is None else item["metadata"]["name"])
        objects.job = _json(replica_view(objects.job_name, item, ())) if item else None
        objects.job_seen = True
        objects.gang = is_indexed(item) if item else objects.gang
        self._put(replica, JOBS, version)

    def pod_changed(self, key: str, item: Json | None, version: int) -> None:
        """Report that a pod changed or, without ``item``, is gone."""
        replica = self._whose(PODS, key, item)
        if replica is None:
            return
        node = ((item or {}).get("spec") or {}).get("nodeName")
        self._place(key, node, replica.workflow, version)
        objects = self._objects(replica, _job_name(item) if item else "")
        if item is None:
            objects.pods.pop(key, None)
        else:
            member = member_in(item, replica.job_name)
            objects.pods[key] = Pod(pod_rank(item), member, _json(pod_view(item)))
        self._put(replica, PODS, version)

    def _whose(self, plural: str, key: str, item: Json | None) -> Replica | None:
        if item is None:
            return self._of.pop((plural, key), None)
        if plural == PODS and is_mirror(item):
            return None
        workflow, job_id = owner(item)
        numbers = names.incarnation_in(item["metadata"].get("labels") or {})
        if not workflow or numbers is None:
            return None
        replica = self._of[plural, key] = Replica(sys.intern(workflow), sys.intern(job_id), *numbers)
        return replica

    def _objects(self, replica: Replica, job_name: str) -> Objects:
        return self._replicas.setdefault(replica, Objects(job_name=job_name, since=time.monotonic()))

    def _place(self, key: str, node: str | None, workflow: str, version: int) -> None:
        was = self._places.pop(key, None)
        if node is not None:
            self._places[key] = node
        if was == node:
            return
        if was is not None:
            del self._nodes[was][key]
            if not self._nodes[was]:
                del self._nodes[was]
            self._moved(was, (PODS, version))
        if node is not None:
            self._nodes.setdefault(node, {})[key] = workflow, self._reported.covers(PODS, version)
            self._moved(node, (PODS, version))

    def _put(self, replica: Replica, plural: str, version: int) -> None:
        objects = self._replicas[replica]
        # The later of two watches may bring the lower version; the workflow accepts only versions that grow.
        objects.version = max(version, objects.version + 1)
        objects.news = objects.news or not self._reported.covers(plural, version)
        if objects.news:
            self._queues.put(("replica", replica), partial(self._tell, replica), owed=(plural, version))
        else:
            objects.told = hash(_projection(objects.view()))

    async def _tell(self, replica: Replica) -> float | None:
        objects = self._replicas.get(replica)
        if objects is None:
            return None
        if objects.pods and not objects.job_seen and time.monotonic() - objects.since < JOB_DELAY:
            return JOB_DELAY
        pause = objects.told_at + PAUSE_PER_POD * len(objects.pods) - time.monotonic()
        if objects.gang and pause > 0:
            return pause
        view, version = objects.view(), objects.version
        projection = _projection(view)
        if hash(projection) != objects.told and not self._only_just_made(objects, projection):
            message = ReplicaChanged(
                job_id=replica.job_id,
                replica=replica.replica,
                incarnation=replica.incarnation,
                version=version,
                view=view,
            )
            await self._gateway.signal(replica.workflow, "replica_changed", message)
            objects.told, objects.told_at = hash(projection), time.monotonic()
        # What came during the signal waits its turn: above all the end of a replica.
        if objects.version == version and objects.job is None and not objects.pods:
            self._replicas.pop(replica, None)
        return None

    def _only_just_made(self, objects: Objects, projection: tuple[object, ...]) -> bool:
        """True for a Job without a pod that its workflow has just made, so that the workflow knows it."""
        return (
            objects.job is not None
            and not objects.pods
            and objects.told is None
            and projection == NEW_JOB
            and time.monotonic() - objects.since < YOUNG
        )


def _json(view: PodView | ReplicaView) -> bytes:
    return view.model_dump_json(exclude_defaults=True).encode()


def _projection(view: ReplicaView) -> tuple[object, ...]:
    """Give the parts of a view on which decisions depend."""
    pods = ((member, *_of_pod(pod)) for member, pod in view.pods.items())
    return (view.job_exists, view.job_failed, view.suspended, view.suspended_by, *pods)


def _of_pod(pod: PodView) -> tuple[object, ...]:
    started, ends = pod.started_at is not None, tuple((end.name, end.exit_code) for end in pod.ends)
    goes = pod.deleting and pod.phase not in {"Succeeded", "Failed"}  # nothing of an ended pod goes on
    seen = (pod.uid, pod.phase, pod.node, goes, pod.disrupted, started, pod.exit_code, pod.waiting_reason)
    return (*seen, pod.reason, ends)


NEW_JOB = _projection(ReplicaView(job_name=""))


def _job_name(pod: Json) -> str:
    labels = pod["metadata"].get("labels") or {}
    owners: Iterable[Json] = pod["metadata"].get("ownerReferences") or []
    named = next((each["name"] for each in owners if each.get("kind") == "Job"), "")
    return str(labels.get("batch.kubernetes.io/job-name") or named)
