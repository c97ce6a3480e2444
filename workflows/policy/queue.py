"""A Job that somebody else has suspended: who holds it, and what its replica does about a machine meanwhile."""

from collections.abc import Iterable
from typing import Literal

from activities.signatures import Hold
from api.messages import JobStart
from api.names import replica_job_name
from api.queues import QUEUE_LABEL, WEBHOOK
from api.views import ReplicaView
from api.waiting import GATED
from workflows.state import Replica

News = Literal["Over", "Held", "Placed"]

QUEUED = "Queued"
"""The condition: True while the Job of a replica is held, by a queue or by whoever suspended it."""
BY_QUEUE, BY_OTHERS, NOT_CREATED, NO_POD, NOT_HELD = "HeldByQueue", "HeldByOthers", "NotCreated", "NoPod", "NotHeld"
GATE = "a scheduling gate"
TOLD = 3  # replicas whose Jobs one message names


def comes_first(replica: Replica, hold: Hold | None) -> bool:
    """True if the replica's next Job has to be let in before anything is bought for it."""
    return not replica.live and (hold is not None or replica.held)


def news(view: ReplicaView | None) -> News | None:
    """Say why a Job that was let in needs no machine now; None if it waits for one, or if nothing is known of it."""
    if view is None:
        return None
    if not view.job_exists or view.job_failed is not None:
        return "Over"
    if view.suspended:
        return "Held"
    return "Placed" if view.pod is not None and view.pod.node is not None else None


def waits(view: ReplicaView | None) -> bool:
    """True if nothing is to be bought for a Job yet: it or its pod is held, or its controller has made no pod."""
    if (told := news(view)) is not None:
        return told == "Held"
    return view is None or view.pod is None or is_gated(view)


def is_gated(view: ReplicaView) -> bool:
    """True if scheduling gates hold the pod."""
    return view.pod is not None and view.pod.waiting_reason == GATED


def waits_for(view: ReplicaView | None, hold: Hold | None) -> str:
    """Say what such a Job waits for."""
    if news(view) == "Held":
        return f"{holder(view, hold)} holds its Job"
    return "its Job has no pod yet" if view is None or view.pod is None else f"{holder(view, hold)} holds its pod"


def lasting(view: ReplicaView, *, ran: bool) -> Hold | None:
    """Tell from a Job that was found suspended who will suspend all later ones, too; None if this was for once.

    A queue's label holds each of them, and so does what held this one, or its pod, in the moment of its creation.
    """
    if not view.suspended:
        return Hold(by=GATE, suspends=False)
    if view.queue is not None:
        return Hold(by=f"queue {view.queue}")
    return None if ran or view.suspended_by is not None else Hold(by=WEBHOOK)


def holder(view: ReplicaView | None, hold: Hold | None) -> str:
    """Say who holds a Job."""
    if view is not None and view.queue is not None:
        return f"queue {view.queue}"
    if view is not None and view.suspended_by is not None:
        return view.suspended_by
    return hold.by if hold is not None else "whoever suspended it"


def told(replicas: Iterable[Replica], hold: Hold | None, start: JobStart) -> tuple[str, str] | None:
    """Give the condition's reason and message: who holds which Jobs, and what helps; None if none is held."""
    held = [replica for replica in replicas if replica.phase == "Queued"]
    if not held:
        return None
    messages = [_told(replica, hold, start) for replica in held[:TOLD]]
    more = f" (and {len(held) - TOLD} more)" if len(held) > TOLD else ""
    reasons = [reason for reason, _ in messages]
    return reasons[0], f"nothing is bought until it is let in: {'; '.join(message for _, message in messages)}{more}"


def _told(replica: Replica, hold: Hold | None, start: JobStart) -> tuple[str, str]:
    name, by = (
        replica_job_name(start.name, start.job_id, replica.index, replica.incarnation),
        holder(replica.view, hold),
    )
    if replica.view is None:
        return NOT_CREATED, f"Job {name}, which {by} holds, is not created yet: {replica.message}"
    if is_gated(replica.view):
        return BY_OTHERS, f"{by} holds the pod of Job {name}; whoever set the gate takes it off"
    if not replica.view.suspended:
        return (
            NO_POD,
            f"Job {name} was let in and has no pod; `kubectl -n {start.namespace} describe job {name}` says why",
        )
    release = f'kubectl -n {start.namespace} patch job {name} -p \'{{"spec":{{"suspend":false}}}}\''
    if by.startswith("queue ") and hold is not None and not hold.served:
        return (
            BY_QUEUE,
            f"{by} holds Job {name}, and the cluster had no Kueue when the job was accepted: `{release}` lets it go "
            f"on; or create the SpotInstanceJob anew without the label {QUEUE_LABEL}",
        )
    if by.startswith("queue "):
        return BY_QUEUE, f"{by} holds Job {name}; `kubectl -n {start.namespace} get workloads` says why"
    return BY_OTHERS, f"{by} holds Job {name}, which `{release}` lets go on"
