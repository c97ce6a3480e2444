"""``spec.ttlSecondsAfterFinished``: when a finished SpotInstanceJob is due to be deleted."""

from datetime import UTC, datetime, timedelta

from api.object_conditions import finished_at
from clients.kube import Json


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
