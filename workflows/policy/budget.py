"""When evictions wait: as long as the next checkpoint holds what an eviction would cost."""

from datetime import datetime, timedelta

from workflows.policy.bounds import bounded

WINDOW = timedelta(seconds=60)
"""How long evictions pass after a checkpoint. ``kubectl drain`` asks every 5 s, the Cluster Autoscaler every 10 s."""

LONGEST_HOLD = 3600.0
"""Seconds of a ``checkpointInterval`` for which evictions wait: GKE, too, gives an hour to a drain."""


def held_until(since: datetime, interval: float, dump: float) -> datetime:
    """Compute when evictions pass without a checkpoint: one was due an interval after ``since``, and takes ``dump``."""
    return since + timedelta(seconds=bounded(min(bounded(interval), LONGEST_HOLD) + bounded(dump)))


def is_held(now: datetime, *, open_until: datetime | None, until: datetime) -> bool:
    """True if evictions wait now: they passed for a while after the last checkpoint, and the next is not overdue."""
    return (open_until is None or now >= open_until) and now < until
