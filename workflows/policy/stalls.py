"""Whether a training that reports progress stands still, and until when that is borne."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from api.duration import parse_duration
from api.spot_instance_job import SpotInstanceJobSpec
from api.views import RestorePoint
from workflows.policy.bounds import bounded
from workflows.state import Replica

DEFAULT_SECONDS = 6 * 3600.0
"""Where a job reports progress and names no ``stallTimeout``: longer than an evaluation between two epochs takes."""
LOOKS = 4
"""How often progress is read within a ``stallTimeout``."""
LEAST_SECONDS = 5.0
"""Between two looks: each reads the end of a log."""


@dataclass(frozen=True)
class Standing:
    """A training that has reported the same since some moment."""

    progress: float
    since: datetime
    until: datetime


def patience(spec: SpotInstanceJobSpec) -> float | None:
    """Give the seconds for which a training may report no progress; None for as long as it likes."""
    if spec.checkpoint_config.progress is None:
        return None
    if spec.stall_timeout is None:
        return DEFAULT_SECONDS
    return parse_duration(spec.stall_timeout).total_seconds() or None


def pause(seconds: float) -> float:
    """Compute the pause between two looks at what trainings report, from the seconds of patience."""
    return max(bounded(seconds) / LOOKS, LEAST_SECONDS)


def standing(replica: Replica, seconds: float, now: datetime) -> Standing | None:
    """Find since when it reported no progress; None if nothing is known, or while a dump of ours freezes it."""
    if replica.phase != "Running" or replica.halt or replica.running_since is None:
        return None
    restore, progress, since = replica.restore, replica.reading, replica.reading_at
    if progress is None and restore is not None and restore.reported:
        progress, since = restore.progress, replica.running_since
    if progress is None or since is None:
        return None
    dump, frozen = replica.dump, timedelta()
    if dump is not None and dump.incarnation == replica.incarnation:
        if dump.ended_at is None:
            return None
        frozen = max(timedelta(), dump.ended_at - max(dump.requested_at, since))
    return Standing(progress, since, since + timedelta(seconds=bounded(seconds)) + frozen)


def holds_stall(point: RestorePoint, replica: Replica) -> bool:
    """True if an image may have been made of a training after it had come to stand still."""
    if point.lineage != f"{replica.index}.{replica.incarnation}" or replica.reading_at is None:
        return False
    if point.reported and replica.reading is not None:
        return point.progress >= replica.reading
    return point.created_at >= replica.reading_at
