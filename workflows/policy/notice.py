"""The time of a notice: when the machine goes, whether a rescue fits in, and how long its image is waited for."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from workflows.policy.bounds import bounded

MARGIN_FACTOR = 1.25
"""Memory grows and a push shares its link, so a rescue beside a survivor's checkpoint is made only with a margin."""

MARGIN_SECONDS = 5.0
"""The fixed part of that margin."""

SOFT_OFF = timedelta(seconds=30)
"""The longest time from ACPI soft off until the power goes (https://cloud.google.com/compute/docs/instances/spot)."""


def ends_at(
    now: datetime, *, seconds_left: float | None = None, began: datetime | None = None, usual: float | None = None
) -> datetime | None:
    """Return when a machine will be shut down; None if nobody knows.

    Args:
        now: The present time.
        seconds_left: The seconds left, as the notice states them.
        began: When the cloud gave its notice, by the machine's own clock.
        usual: The seconds of notice that the machine was bought with.
    """
    if seconds_left is not None:
        return now + timedelta(seconds=bounded(seconds_left))
    if began is None or usual is None:
        return None
    return min(began, now) + timedelta(seconds=bounded(usual))


def fits(left: float | None, dumps: Sequence[float], *, survivor: bool) -> tuple[bool, str]:
    """Decide whether to rescue the dying replica, and say why.

    Without a survivor there is nothing to lose, so the margin is left out, and a rescue is tried even if no checkpoint
    was ever measured.

    Args:
        left: The seconds until the machine is shut down; None if unknown.
        dumps: The seconds that this job's last checkpoints took, from the request to the pushed image.
        survivor: Whether a survivor is checkpointed at the same time.
    """
    if left is None:
        return False, "nobody says how long its machine has left"
    if left <= 0:
        return False, "its notice leaves no time"
    if not dumps:
        return not survivor, f"{left:.0f} s are left, and how long a checkpoint takes is not known yet"
    longest = max(dumps)
    needed = _safe(longest) if survivor else longest
    return needed <= left, f"{left:.0f} s are left, and a checkpoint takes {longest:.0f} s"


def last_moment(ends: datetime, dumps: Sequence[float]) -> datetime:
    """Return when a checkpoint must begin at the latest to end safely before the machine is shut down at ``ends``."""
    return ends - timedelta(seconds=_safe(max(dumps, default=0)))


def once_more(left: float, dumps: Sequence[float], gain: float, *, awaited: bool) -> bool:
    """Decide whether a dying replica that was rescued and trains on is checkpointed a second time.

    Args:
        left: The seconds until the machine is shut down.
        dumps: The seconds that this job's last checkpoints took.
        gain: The seconds of training that no image contains. They must be more than a checkpoint takes.
        awaited: Whether the new machine is Ready. The checkpoint then delays its start and must be worth that as well.
    """
    longest = max(dumps, default=0)
    return longest <= left and gain > longest * (2 if awaited else 1)


def _safe(seconds: float) -> float:
    return bounded(seconds * MARGIN_FACTOR + MARGIN_SECONDS)


def wait_until(now: datetime, due: datetime, ahead: float) -> datetime:
    """Return until when to wait for an image that is ``ahead`` of the best finished one by so many seconds of training.

    It is not waited for at all if it is ``due`` later than it gains. If it is late, it is waited for at most as long as
    it gains.
    """
    gain = timedelta(seconds=bounded(ahead))
    return now if not gain or due > now + gain else due + gain
