"""``spec.ttlSecondsAfterFinished``: when a finished SpotInstanceJob is due to be deleted."""

from datetime import UTC, datetime, timedelta

from api import conditions
from api.object_conditions import is_true, true_condition
from clients.kube import Json

FINAL = (conditions.COMPLETED, conditions.FAILED)


def finished_at(item: Json) -> datetime | None:
    """Find when the training ended; None if it has not, or if nothing says when."""
    ended = [true_condition(item, kind) for kind in FINAL]
    times = [each["lastTransitionTime"] for each in ended if each and each.get("lastTransitionTime")]
    return min(map(datetime.fromisoformat, times), default=None)


def is_over(item: Json) -> bool:
    """True if the training is over, well or not."""
    return is_true(item, *FINAL)


def due_at(item: Json) -> datetime | None:
    """Compute when the object is to be deleted; None if it is to stay."""
    seconds, ended = (item.get("spec") or {}).get("ttlSecondsAfterFinished"), finished_at(item)
    if seconds is None or ended is None:
        return None
    try:
        return ended + timedelta(seconds=seconds)
    except OverflowError:  # the field allows about 68 years; a status written by hand may name any year
        return None


def seconds_until(moment: datetime) -> float:
    """Count the seconds from now to a moment; negative if it has passed."""
    return (moment - datetime.now(UTC)).total_seconds()
