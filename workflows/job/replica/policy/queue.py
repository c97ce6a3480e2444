"""A held Job: who holds it, and whether its replica needs a machine meanwhile."""

from collections.abc import Iterable
from typing import Literal

from activities.signatures import Hold
from api import reasons
from api.messages import JobStart
from api.names import replica_job_name
from api.queues import QUEUE_LABEL, WEBHOOK
from api.views import ReplicaView
from api.waiting import GATED
from workflows.job.state.replica import Replica

News = Literal["Over", "Held", "Placed"]
"""The Job is gone or failed, it is held, or its pod has a node."""


GATE = "a scheduling gate"

NAMED = 3
"""How many Jobs one message names."""


def comes_first(replica: Replica, hold: Hold | None) -> bool:
    """True if the replica's next Job has to be admitted before anything is bought for it."""
    return not replica.run.live and (hold is not None or replica.run.held)


def news(view: ReplicaView | None) -> News | None:
    """Return why a Job needs no machine now; None if it waits for one, or if nothing is known of it."""
    if view is None:
        return None
    if not view.job_exists or view.job_failed is not None:
        return "Over"
    if view.suspended:
        return "Held"
    return "Placed" if view.pods and all(pod.node is not None for pod in view.pods.values()) else None


def waits(view: ReplicaView | None) -> bool:
    """True if nothing should be bought for a Job yet: it or its pod is held, or its controller has made no pod."""
    if (why := news(view)) is not None:
        return why == "Held"
    return view is None or not view.pods or is_gated(view)


def is_gated(view: ReplicaView) -> bool:
    """True if a scheduling gate holds a pod."""
    return any(pod.waiting_reason == GATED for pod in view.pods.values())


def waits_for(view: ReplicaView | None, hold: Hold | None) -> str:
    """Say what a held Job waits for."""
    if news(view) == "Held":
        return f"{holder(view, hold)} holds its Job"
    return "its Job has no pod yet" if view is None or not view.pods else f"{holder(view, hold)} holds its pod"


def lasting(view: ReplicaView, *, ran: bool) -> Hold | None:
    """Infer from a Job that was found held who will hold all later ones too; None if only this one is held.

    A queue's label holds each of them. So does whatever held this Job or its pod when it was created.
    """
    if not view.suspended:
        return Hold(by=GATE, suspends=False)
    if view.queue is not None:
        return Hold(by=f"queue {view.queue}")
    return None if ran or view.suspended_by is not None else Hold(by=WEBHOOK)


def holder(view: ReplicaView | None, hold: Hold | None) -> str:
    """Name whoever holds a Job."""
    if view is not None and view.queue is not None:
        return f"queue {view.queue}"
    if view is not None and view.suspended_by is not None:
        return view.suspended_by
    return hold.by if hold is not None else "whoever suspended it"


def report(replicas: Iterable[Replica], hold: Hold | None, start: JobStart) -> tuple[str, str] | None:
    """Return the condition's reason and message: who holds which Jobs, and what helps; None if none is held."""
    held = [replica for replica in replicas if replica.phase == "Queued"]
    if not held:
        return None
    messages = [_report(replica, hold, start) for replica in held[:NAMED]]
    more = f" (and {len(held) - NAMED} more)" if len(held) > NAMED else ""
    reasons = [reason for reason, _ in messages]
    text = "; ".join(message for _, message in messages)
    return reasons[0], f"nothing is bought while a Job is held: {text}{more}"


def _report(replica: Replica, hold: Hold | None, start: JobStart) -> tuple[str, str]:
    name, by = (
        replica_job_name(start.name, start.job_id, replica.index, replica.incarnation),
        holder(replica.run.view, hold),
    )
    if replica.run.view is None:
        return reasons.NOT_CREATED, f"Job {name}, which {by} holds, is not created yet: {replica.message}"
    if is_gated(replica.run.view):
        return reasons.HELD_BY_OTHERS, f"{by} holds the pod of Job {name}; only whoever set the gate can remove it"
    if not replica.run.view.suspended:
        return (
            reasons.NO_POD,
            f"Job {name} is not held but has no pod; `kubectl -n {start.namespace} describe job {name}` says why",
        )
    release = f'kubectl -n {start.namespace} patch job {name} -p \'{{"spec":{{"suspend":false}}}}\''
    if by.startswith("queue ") and hold is not None and not hold.served:
        return (
            reasons.HELD_BY_QUEUE,
            f"{by} holds Job {name}, and the cluster had no Kueue when the job was accepted: release it by "
            f"`{release}`, or create the SpotInstanceJob anew without the label {QUEUE_LABEL}",
        )
    if by.startswith("queue "):
        return reasons.HELD_BY_QUEUE, f"{by} holds Job {name}; `kubectl -n {start.namespace} get workloads` says why"
    return reasons.HELD_BY_OTHERS, f"{by} holds Job {name}; `{release}` releases it"
