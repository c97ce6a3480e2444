"""How far a replica is: what it reports, else the running seconds of its lineage."""

from datetime import datetime

from workflows.state import Replica


def lineage_seconds(replica: Replica, now: datetime) -> float:
    """Seconds that this replica's memory has trained for, those of what it was restored from among them."""
    if replica.running_since is None:
        return replica.base_progress
    return replica.base_progress + max(0.0, (now - replica.running_since).total_seconds())


def progress(replica: Replica, now: datetime) -> float:
    """The figure to compare siblings by: its own last report where there is one, else its lineage's seconds."""
    return replica.reading if replica.reading is not None else lineage_seconds(replica, now)
