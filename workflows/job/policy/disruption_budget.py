"""When evictions have to wait: as long as the next checkpoint will save what an eviction would cost."""

from datetime import datetime, timedelta

from workflows.policy.bounds import bounded

WINDOW = timedelta(seconds=60)
"""How long evictions pass after a checkpoint. ``kubectl drain`` tries every 5 s, the Cluster Autoscaler every 10 s."""

LONGEST_BLOCK = 3600.0
"""The most seconds of a ``checkpointInterval`` for which evictions wait. GKE also allows a drain one hour."""


def blocked_until(since: datetime, interval: float, dump: float) -> datetime:
    """Return when evictions may pass even without a checkpoint: once the next one is overdue.

    Args:
        since: Since when there is something to lose.
        interval: The seconds between two checkpoints.
        dump: The most seconds that a checkpoint takes.
    """
    return since + timedelta(seconds=bounded(min(bounded(interval), LONGEST_BLOCK) + bounded(dump)))


def is_blocked(now: datetime, *, open_until: datetime | None, until: datetime) -> bool:
    """True if evictions have to wait now: the window after the last checkpoint is over, and the next is not overdue."""
    return (open_until is None or now >= open_until) and now < until
