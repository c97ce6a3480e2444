"""Who will suspend the Jobs of a SpotInstanceJob, found out before there is one."""

from activities.signatures import Hold, PodVerdict
from api.queues import QUEUE_LABEL, QUEUE_LABELS, WEBHOOK, gates_of
from clients.kube import Json, Kube, KubeError

BY_TEMPLATE = "jobTemplate.spec.suspend"
TOLD = 3  # gates that a message names


def labels_for_queues(labels: Json | None) -> dict[str, str]:
    """Select the labels of a SpotInstanceJob that apply to its Jobs unless the template says otherwise."""
    return {key: labels[key] for key in QUEUE_LABELS if labels and key in labels}


def hold_of(template: Json, labels: dict[str, str], verdict: PodVerdict) -> Hold | None:
    """Say who holds each Job; None if nobody does.

    Args:
        template: the ``jobTemplate``.
        labels: see :func:`labels_for_queues`.
        verdict: the answer to the dry run of the first Job.
    """
    wanted = labels | ((template.get("metadata") or {}).get("labels") or {})
    queue = wanted.get(QUEUE_LABEL) or verdict.queue
    if queue:
        return Hold(by=f"queue {queue}", labels=labels)
    if (template.get("spec") or {}).get("suspend") is True:
        return Hold(by=BY_TEMPLATE)
    if verdict.suspended:
        return Hold(by=WEBHOOK)
    if gates := verdict.gates or _gates(template):
        more = f" (and {len(gates) - TOLD} more)" if len(gates) > TOLD else ""
        return Hold(by=f"scheduling gate {', '.join(gates[:TOLD])}{more}", suspends=False)
    return None


async def looked_after(kube: Kube, hold: Hold | None) -> Hold | None:
    """Add whether the cluster serves Kueue's API, if a queue holds the Jobs; everybody may ask for that."""
    if hold is None or not hold.by.startswith("queue "):
        return hold
    try:
        served = await kube.find("/apis/kueue.x-k8s.io") is not None
    except KubeError as error:
        if error.status != 403:
            raise
        served = True
    return hold.model_copy(update={"served": served})


def _gates(template: Json) -> list[str]:
    pod = ((template.get("spec") or {}).get("template") or {}).get("spec") or {}
    return gates_of(pod)
