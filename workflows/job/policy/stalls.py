"""Whether a training that reports progress stalls, and until when that is tolerated."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from api.duration import parse_duration
from api.spot_instance_job import SpotInstanceJobSpec
from api.views import RestorePoint
from workflows.job.state.replica import MemberReading, Replica
from workflows.policy.bounds import bounded

DEFAULT_SECONDS = 6 * 3600.0
"""The timeout of a job that reports progress but sets no ``stallTimeout``. Evaluations between epochs take less."""

CHECKS = 4
"""How often progress is read within a ``stallTimeout``."""

LEAST_SECONDS = 5.0
"""The shortest pause between two checks, each of which reads the end of a log."""


@dataclass(frozen=True)
class Stall:
    """A training that has reported the same progress ``since`` some time, which is tolerated ``until`` another."""

    progress: float
    since: datetime
    until: datetime


def stall_timeout(spec: SpotInstanceJobSpec) -> float | None:
    """Return the seconds for which a training may report no progress; None if there is no limit."""
    if spec.checkpoint_config.progress is None:
        return None
    if spec.stall_timeout is None:
        return DEFAULT_SECONDS
    return parse_duration(spec.stall_timeout).total_seconds() or None


def pause(seconds: float) -> float:
    """Return the seconds between two checks of what trainings report, for a timeout of ``seconds``."""
    return max(bounded(seconds) / CHECKS, LEAST_SECONDS)


def stall_of(replica: Replica, seconds: float, now: datetime) -> Stall | None:
    """Find since when a replica has reported no progress; None if nothing is known, or while a dump freezes it."""
    if replica.phase != "Running" or replica.halt or replica.run.running_since is None:
        return None
    restore, progress, since = replica.run.restore, replica.run.reading, replica.run.reading_at
    if progress is None and restore is not None and restore.reported:
        progress, since = restore.progress, replica.run.running_since
    if progress is None or since is None:
        return None
    dump, frozen = replica.run.dump, timedelta()
    if dump is not None and dump.incarnation == replica.incarnation:
        if dump.ended_at is None:
            return None
        frozen = max(timedelta(), dump.ended_at - max(dump.requested_at, since))
    return Stall(progress, since, since + timedelta(seconds=bounded(seconds)) + frozen)


def stragglers(replica: Replica, seconds: float) -> dict[int, MemberReading]:
    """Find the members of a gang that have reported nothing new for half of ``seconds`` while another one has.

    A member that never reported a second figure does not count: often only the first one reports every step.
    """
    readings = {member: each for member, each in replica.run.readings.items() if each.moves}
    newest = max((each.at for each in readings.values()), default=None)
    patience = timedelta(seconds=bounded(seconds) / 2)
    return {member: each for member, each in readings.items() if newest is not None and newest - each.at >= patience}


def furthest_behind(replica: Replica) -> dict[int, MemberReading]:
    """Find the members of a stalled gang for which the others may wait; none if all have reported the same."""
    readings = {member: each for member, each in replica.run.readings.items() if each.moves}
    least = min((each.progress for each in readings.values()), default=0.0)
    behind = {member: each for member, each in readings.items() if each.progress == least}
    return behind if len(behind) < len(readings) else {}


def contains_stall(point: RestorePoint, replica: Replica) -> bool:
    """True if an image may have been made of a training after it had stalled."""
    if point.lineage != f"{replica.index}.{replica.incarnation}" or replica.run.reading_at is None:
        return False
    if point.reported and replica.run.reading is not None:
        return point.progress >= replica.run.reading
    return point.created_at >= replica.run.reading_at
