"""Projections: plain Kubernetes JSON → the views of :mod:`api.views`. Pure; the activities and the bridge use them.

The input is an object as the API server sends it, a dict; only fields that the API guarantees are assumed.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from api import names, reasons
from api.gang import INDEX_ANNOTATION, LARGEST
from api.names import GPU_RESOURCE, TAINT_PREEMPTED
from api.node_conditions import BROKEN, UNFIT
from api.object_conditions import is_true, true_condition
from api.queues import is_suspended, queue_of, suspended_by
from api.views import AgentView, CheckpointView, ContainerEnd, NodeView, PodView, ReplicaView
from api.waiting import PULLS

Json = dict[str, Any]

# Taints by which handlers that people already use announce the end of a node: exact keys and prefixes.
_MARK_TAINTS = {
    TAINT_PREEMPTED,  # our node agent
    "cloud.google.com/impending-node-termination",  # GKE
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",  # Karpenter before v1
    "remediator.kubernetes.azure.com/unschedulable",  # AKS' node auto-drain
    "ToBeDeletedByClusterAutoscaler",
    "node.cloudprovider.kubernetes.io/shutdown",  # a cloud controller: the VM is stopped
    "node.kubernetes.io/out-of-service",
}
# spot-itn, scheduled-maintenance, rebalance-recommendation and asg-lifecycle-termination: each is followed by a drain.
_MARK_TAINT_PREFIXES = ("aws-node-termination-handler/",)

# Conditions that AKS's node problem detector sets from Azure's Scheduled Events.
_MARK_CONDITIONS = {
    "PreemptScheduled",
    "PreemptionScheduled",
    "TerminateScheduled",
    "RedeployScheduled",
    "RebootScheduled",
    "VMEventScheduled",
}

# VMEventScheduled stands for any of them; its reason or message says which. A freeze lasts seconds and is no end.
_FREEZE = re.compile(r"freeze", re.IGNORECASE)

# What the kubelet says on its Ready condition when the operating system shuts down (graceful node shutdown).
_SHUTTING_DOWN = "node is shutting down"
MARK_SHUTDOWN = "KubeletShuttingDown"


def node_view(node: Json) -> NodeView:
    """Convert a Node."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    marks = node_marks(node)
    return NodeView(
        name=metadata["name"],
        uid=metadata.get("uid"),
        ready=is_true(node, "Ready"),
        schedulable=not spec.get("unschedulable", False),
        gpus=int((status.get("allocatable") or {}).get(GPU_RESOURCE, 0)),
        marks=marks,
        unfit=_said(status.get("conditions") or [], UNFIT),
        marked_at=None if MARK_SHUTDOWN in marks else _marked_at(spec),
    )


def node_marks(node: Json) -> list[str]:
    """List, sorted, the taints' keys and conditions' types that announce this node's end or failure."""
    taints = [taint["key"] for taint in (node.get("spec") or {}).get("taints") or []]
    conditions = (node.get("status") or {}).get("conditions") or []
    marks = {key for key in taints if key in _MARK_TAINTS or key.startswith(_MARK_TAINT_PREFIXES)}
    marks |= {c["type"] for c in conditions if c["type"] in _MARK_CONDITIONS and c["status"] == "True" and _ends(c)}
    marks |= set(_said(conditions, BROKEN))
    marks |= {MARK_SHUTDOWN for c in conditions if c["type"] == "Ready" and _SHUTTING_DOWN in c.get("message", "")}
    return sorted(marks)


def _said(conditions: list[Json], wanted: Mapping[str, str]) -> list[str]:
    """List, sorted, the types of the conditions with the status that matters."""
    return sorted({c["type"] for c in conditions if wanted.get(c["type"]) == c["status"]})


def _ends(condition: Json) -> bool:
    return not _FREEZE.search(f"{condition.get('reason', '')} {condition.get('message', '')}")


def _marked_at(spec: Json) -> datetime | None:
    """Read when the cloud notified our agent, from the taint's value; a taint set by hand may contain anything."""
    values = [taint.get("value", "") for taint in spec.get("taints") or [] if taint["key"] == TAINT_PREEMPTED]
    try:
        return datetime.strptime(values[0], names.MARK_TIME).replace(tzinfo=UTC) if values else None
    except ValueError:
        return None


def agent_view(pods: Iterable[Json], *, installed: bool) -> AgentView:
    """Describe the node agent by its ``pods`` on one node; ``installed`` if there is a DaemonSet that makes them."""
    pod = max(pods, key=pod_rank, default=None)
    if pod is None and not installed:
        said = (
            "there is no DaemonSet outlast-agent: apply deploy/base, name its namespace in OUTLAST_AGENT_NAMESPACE, "
            "or let something else taint preempted Nodes"
        )
        return AgentView(running=False, reason=reasons.NOT_INSTALLED, message=said)
    if pod is None:
        said = (
            "its DaemonSet has made no pod there; `kubectl -n outlast-system describe daemonset outlast-agent` says why"
        )
        return AgentView(running=False, reason=reasons.NO_POD, message=said)
    view = pod_view(pod)
    if view.phase == "Running" and view.started_at and not view.waiting_reason:
        return AgentView(running=True)
    reason = view.waiting_reason or view.phase
    said = view.message or f"pod {view.name} is {view.phase}"
    if reason in PULLS:
        said += "; if its registry is private, give outlast-agent a pull Secret (deploy/components/private-registry)"
    return AgentView(running=False, reason=reason, message=said)


# Why a pod ended, in the kubelet's words (status.reason), if the training is not to blame.
_DISRUPTIONS = {
    "Terminated",  # graceful node shutdown
    "NodeShutdown",  # came to a node that is shutting down
    "Shutdown",  # the same before Kubernetes 1.22
    "Evicted",  # the node is short of something
    "Preempting",  # for a critical pod
    "NodeLost",
    "NodeAffinity",  # no longer admitted: the node's labels changed
    "UnexpectedAdmissionError",  # the GPUs' device plugin did not run
}
_NO_ROOM = "OutOf"  # OutOfcpu, OutOfnvidia.com/gpu: another pod was faster
# A pod that fills its own disk is evicted with the same reason, but that is the training's own failure.
_OWN_LIMIT = re.compile(r"exceeds the (total )?limit|exceeded its")

LONGEST_WORDS = 500
"""Characters kept of a text about a pod's end."""

_ON_THE_WAY = {"ContainerCreating", "PodInitializing"}
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_MOST_CONDITIONS = 32
_MOST_ENDS = 128
_LONGEST_NAME = 63
_LONGEST_REASON = 256
_LONGEST_MESSAGE = 2048
_FEW_ENDS = 40  # more than a template may have containers
_MESSAGE_BYTES = 2**19  # of all pods of a gang: a state has those of several incarnations, and Temporal allows 2 MiB
_FEWER_ENDS = 4  # of a pod that still takes too much
_MOST_SAID = 256  # characters of a container's last words; a program may leave 4096


def replica_view(job_name: str, job: Json | None, pods: Iterable[Json]) -> ReplicaView:
    """Convert a Job (None: gone) and its ``pods``; of several of one member the running one counts, else the newest."""
    newest: dict[int, Json] = {}
    for pod in sorted(pods, key=pod_rank):
        newest[member_in(pod, job_name) if job is None or is_indexed(job) else 0] = pod
    seen = {member: pod_view(newest[member]) for member in sorted(newest)}
    if job is None:
        return with_pods(no_job(job_name), seen)
    failed = true_condition(job, "Failed")
    view = ReplicaView(
        job_name=job_name,
        job_uid=job["metadata"].get("uid"),
        job_failed=failed.get("reason", "Failed") if failed else None,
        suspended=is_suspended(job),
        suspended_by=suspended_by(job) if is_suspended(job) else None,
        queue=queue_of(job),
    )
    return with_pods(view, seen)


Rank = tuple[bool, str]


def pod_rank(pod: Json) -> Rank:
    """Give the order of a replica's pods: the greatest counts."""
    return _alive(pod), pod["metadata"].get("creationTimestamp") or ""


def is_indexed(job: Json) -> bool:
    """True for the Job of a gang, whose pods have indexes."""
    return bool((job.get("spec") or {}).get("completionMode") == "Indexed")


def member_in(pod: Json, job_name: str) -> int:
    """Read which member of a gang this is: the index of a pod that the Job of this name controls, 0 for any other."""
    metadata = pod["metadata"]
    index = (metadata.get("annotations") or {}).get(INDEX_ANNOTATION, "")
    owners = metadata.get("ownerReferences") or []
    ours = any(each.get("controller") and (each["kind"], each["name"]) == ("Job", job_name) for each in owners)
    member = int(index) if ours and re.fullmatch("[0-9]{1,9}", index) else 0
    return member if member < LARGEST else 0


def no_job(job_name: str) -> ReplicaView:
    """Describe a replica whose Job is gone."""
    return ReplicaView(job_name=job_name, job_exists=False)


def with_pods(view: ReplicaView, pods: Mapping[int, PodView]) -> ReplicaView:
    """Put the pods of all members into a view of their Job."""
    seen = _together(pods)
    others = {member: pod for member, pod in sorted(seen.items()) if member}
    return view.model_copy(update={"pod": seen.get(0), "other_pods": others})


def _together(pods: Mapping[int, PodView]) -> Mapping[int, PodView]:
    """Shorten the views that take more than their part of a message, as root on a bought node can make them."""
    room = _MESSAGE_BYTES // max(1, len(pods))
    if len(pods) < 2:
        return pods
    return {member: _within(room, pod) for member, pod in pods.items()}


def _within(room: int, pod: PodView) -> PodView:
    """Shorten a view until it takes no more than so many bytes: at first what it says, and then what it lists."""
    if len(pod.model_dump_json()) <= room:
        return pod
    said = pod.message[: room // 16] if pod.message else None
    ends = [end.model_copy(update={"message": None}) for end in pod.ends[:_FEW_ENDS]]
    shorter = pod.model_copy(update={"ends": ends, "conditions": {}, "message": said, "disruption": None})
    if len(shorter.model_dump_json()) <= room:
        return shorter
    few = sorted(ends, key=lambda end: not end.exit_code)[:_FEWER_ENDS]
    reason, waits = pod.reason and pod.reason[:32], pod.waiting_reason and pod.waiting_reason[:32]
    return shorter.model_copy(update={"ends": few, "message": None, "reason": reason, "waiting_reason": waits})


def is_mirror(pod: Json) -> bool:
    """True for a pod that a kubelet made, the image of a static pod, in any namespace and with any labels.

    Root on a Node may make one beside anybody's replica, with its labels. The annotation cannot be removed.
    """
    return "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})


def pod_view(pod: Json) -> PodView:
    """Convert a replica's pod."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    conditions = (status.get("conditions") or [])[:_MOST_CONDITIONS]
    taken = true_condition(pod, "DisruptionTarget")
    containers: list[Json] = status.get("containerStatuses") or []
    waiting_reason, waiting_message = _waiting(pod)
    ended = [state for each in containers if (state := (each.get("state") or {}).get("terminated"))]
    code, ends = _exit_code(pod), _container_ends(pod)
    said = status.get("message") or waiting_message or _last_words(ended)
    over = bool(ends) or not _alive(pod) or "deletionTimestamp" in metadata
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        phase=status.get("phase", "Pending"),
        node=spec.get("nodeName"),
        deleting="deletionTimestamp" in metadata,
        disrupted=_disrupted(status) or taken is not None,
        disruption=_words(status) if _disrupted(status) else _words(taken) if taken else None,
        started_at=_all_started(containers),
        finished_at=max((_time(state["finishedAt"]) for state in ended if state.get("finishedAt")), default=None)
        if code is not None
        else None,
        exit_code=code,
        ends=ends,
        reason=_short(status["reason"], _LONGEST_REASON) if status.get("reason") else None,
        # While it runs, conditions come and go, and nobody needs them.
        conditions={_short(c["type"], _LONGEST_REASON): c["status"] for c in conditions} if over else {},
        waiting_reason=_short(waiting_reason, _LONGEST_REASON) if waiting_reason else None,
        message=_short(said, _LONGEST_MESSAGE) if said else None,
    )


def checkpoint_view(backup: Json) -> CheckpointView:
    """Convert a CheckpointBackup. Its ``imageName`` lacks the registry's host; only images that were pushed count."""
    metadata, status = backup["metadata"], backup.get("status") or {}
    annotations = metadata.get("annotations") or {}
    registry = ((backup.get("spec") or {}).get("registry") or {}).get("url", "")
    host = re.sub(r"^[a-z]+://", "", registry).rstrip("/")
    built = [image for image in status.get("builtImages") or [] if image.get("pushed")]
    progress = annotations.get(names.ANNOTATION_PROGRESS)
    return CheckpointView(
        name=metadata["name"],
        uid=metadata.get("uid"),
        phase=status.get("phase") or None,
        message=status.get("message") or None,
        images={image["containerName"]: f"{host}/{image['imageName']}" for image in built if host},
        tag=annotations.get(names.ANNOTATION_TAG),
        progress=float(progress) if progress else None,
        reported=annotations.get(names.ANNOTATION_REPORTED) == "true",
    )


def _short(text: str, longest: int) -> str:
    """Keep the beginning: root on a bought node can write anything, and Temporal allows 2 MiB in all."""
    return text[:longest]


def _alive(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def _disrupted(status: Json) -> bool:
    reason, message = status.get("reason", ""), status.get("message", "")
    if reason == "Evicted" and _OWN_LIMIT.search(message):
        return False
    return reason in _DISRUPTIONS or reason.startswith(_NO_ROOM)


def _words(told: Json) -> str:
    return ": ".join(part for part in (told.get("reason"), told.get("message")) if part)[:LONGEST_WORDS]


def _waiting(pod: Json) -> tuple[str | None, str | None]:
    """Say why the pod does not run yet, beyond what passes by itself, with the explanation that comes with it."""
    status = pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = (each.get("state") or {}).get("waiting") or {}
        reason = state.get("reason")
        if reason and reason not in _ON_THE_WAY:
            # The kubelet alternates between these two: with one word for both, not each change is news.
            return "ImagePullBackOff" if reason == "ErrImagePull" else reason, state.get("message")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason"), condition.get("message")
    return None, None


def _exit_code(pod: Json) -> int | None:
    """Read the exit code of the first container that failed; 0 once all ended well, None before or if none ran."""
    first, last = _counted(pod)
    codes = [_code(each) for each in last]
    failed = next((code for code in [*map(_code, first), *codes] if code), None)
    if failed is not None:
        return failed
    return 0 if codes and None not in codes else None


def _container_ends(pod: Json) -> list[ContainerEnd]:
    """List the ends of its containers and of init containers that failed; one that ended well is no end of anything."""
    first, last = _counted(pod)
    failed = [_end(each, init=True) for each in first if _code(each)]
    return (failed + [_end(each) for each in last if _code(each) is not None])[:_MOST_ENDS]


def _end(status: Json, *, init: bool = False) -> ContainerEnd:
    state = status["state"]["terminated"]
    finished, said = state.get("finishedAt"), state.get("message") or state.get("reason")
    return ContainerEnd(
        name=_short(status["name"], _LONGEST_NAME),
        exit_code=int(state["exitCode"]),
        finished_at=_time(finished) if finished else None,
        message=said[:_MOST_SAID] if said else None,
        init=init,
    )


def _counted(pod: Json) -> tuple[list[Json], list[Json]]:
    """Select the init containers and the others whose ends mean something, and return their statuses.

    An init container that is always restarted is a sidecar, stopped after the others with any exit code. A container
    with a restart policy of its own (Kubernetes 1.34) may be started again as long as its pod exists.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {each["name"] for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"}
    first = [each for each in status.get("initContainerStatuses") or [] if each["name"] not in sidecars]
    last = status.get("containerStatuses") or []
    if _alive(pod):
        own = {each["name"]: each for each in spec.get("containers") or [] if "restartPolicy" in each}
        last = [each | {"state": {}} if _starts_again(own.get(each["name"]), _code(each)) else each for each in last]
    return first, last


def _starts_again(container: Json | None, code: int | None) -> bool:
    """True if this container, which has a restart policy of its own, is started again after such an end."""
    if container is None or code is None:
        return False
    return container["restartPolicy"] == "Always" or (
        code != 0 and (container["restartPolicy"] == "OnFailure" or bool(container.get("restartPolicyRules")))
    )


def _code(status: Json) -> int | None:
    terminated = (status.get("state") or {}).get("terminated")
    return int(terminated["exitCode"]) if terminated else None


def _all_started(containers: list[Json]) -> datetime | None:
    """Read when the last of the containers started; None as long as one has not."""
    states = [each.get("state") or {} for each in containers]
    starts = [(state.get("running") or state.get("terminated") or {}).get("startedAt") for state in states]
    times = [_time(start) for start in starts if start]
    # For a container that its runtime could not start, a kubelet reports the epoch as its start.
    return max(times, default=None) if all(starts) and all(time.year > 1970 for time in times) else None


def _last_words(ended: list[Json]) -> str | None:
    """Read what a failed container's runtime said, for example OOMKilled."""
    said = (state.get("message") or state.get("reason") for state in ended if state["exitCode"])
    return next((text for text in said if text), None)


def _time(text: str) -> datetime:
    """Read a time; root on a node may write the years 0 and 9999, with which dates cannot be computed."""
    try:
        return min(max(datetime.fromisoformat(text), _EARLIEST), _LATEST)
    except ValueError:
        return _EARLIEST
