"""How far a running replica is: its training time, over all machines that it was on.

Reported progress is known only for the time of a dump, and restore points are compared by it. Running replicas are
compared by their training time, which is known of all of them at any time.
"""

from datetime import datetime

from workflows.job.state.replica import Replica


def training_time(replica: Replica, now: datetime) -> float:
    """Return the seconds of training in a replica's memory, with those of its restore point."""
    if replica.run.running_since is None:
        return replica.run.base_seconds
    return replica.run.base_seconds + max(0.0, (now - replica.run.running_since).total_seconds())
