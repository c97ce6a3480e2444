"""``spec.ttlSecondsAfterFinished``: when a finished SpotInstanceJob is due to be deleted."""

from datetime import UTC, datetime, timedelta

from clients.kube import Json

FINAL = frozenset({"Completed", "Failed"})
"""Conditions that say that the training is over."""


def finished_at(item: Json) -> datetime | None:
    """Find when the training ended; None if it has not, or if nothing says when."""
    conditions = (item.get("status") or {}).get("conditions") or []
    ends = [each.get("lastTransitionTime") for each in conditions if is_end(each)]
    return min((datetime.fromisoformat(end) for end in ends if end), default=None)


def is_end(condition: Json) -> bool:
    """True if this condition says that the training is over."""
    return condition["type"] in FINAL and condition["status"] == "True"


def due_at(item: Json) -> datetime | None:
    """Compute when the object is to be deleted; None if it is to stay."""
    seconds, ended = (item.get("spec") or {}).get("ttlSecondsAfterFinished"), finished_at(item)
    if seconds is None or ended is None:
        return None
    try:
        return ended + timedelta(seconds=seconds)
    except OverflowError:  # some 68 years fit in the field; a status by hand may name any year
        return None


def seconds_until(moment: datetime) -> float:
    """Count the seconds from now to a moment; negative if it has passed."""
    return (moment - datetime.now(UTC)).total_seconds()
