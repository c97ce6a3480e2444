"""Queues that hold Jobs, as Kueue does: their labels, and who has suspended a Job. Pure."""

from typing import Any

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_LABELS = (QUEUE_LABEL, "kueue.x-k8s.io/priority-class", "kueue.x-k8s.io/max-exec-time-seconds")
"""Labels by which Kueue admits a Job. On a SpotInstanceJob they apply to each of its Jobs."""
WEBHOOK = "an admission webhook"
"""The words for who holds a Job that was suspended at the moment of its creation."""

Json = dict[str, Any]


def queue_of(job: Json) -> str | None:
    """Read the queue that a Job's label names; None if it names none."""
    return (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)


def gates_of(pod_spec: Json) -> list[str]:
    """List the scheduling gates that keep a pod from being scheduled until somebody removes them."""
    return [str(gate.get("name")) for gate in pod_spec.get("schedulingGates") or []]


def is_suspended(job: Json) -> bool:
    """True if the Job's controller makes no pod until somebody ends the suspension."""
    return (job.get("spec") or {}).get("suspend") is True


def suspended_by(job: Json) -> str | None:
    """Find the field manager that wrote ``spec.suspend`` after the Job was created, for example ``kubectl-patch``.

    None if it was the Job's creator: then the suspension is its own, or a webhook's.
    """
    writers = [each for each in job["metadata"].get("managedFields") or [] if "f:suspend" in _spec(each)]
    creators = {each.get("manager") for each in job["metadata"].get("managedFields") or [] if _creates(each)}
    last = max(writers, key=lambda each: each.get("time") or "", default=None)
    return last.get("manager") if last is not None and last.get("manager") not in creators else None


def _creates(entry: Json) -> bool:
    return "f:backoffLimit" in _spec(entry)


def _spec(entry: Json) -> Json:
    return (entry.get("fieldsV1") or {}).get("f:spec") or {}
