"""How far a living replica is: the seconds that its memory has trained for, over all machines it was on.

What a training reports itself is known only of the moment of a dump, and is compared between restore points. Living
siblings are compared by their lineages' seconds, the one figure that is known of all of them at any moment.
"""

from datetime import datetime

from workflows.state import Replica


def lineage_seconds(replica: Replica, now: datetime) -> float:
    """Seconds of training in this replica's memory, those of what it was restored from among them."""
    if replica.running_since is None:
        return replica.base_seconds
    return replica.base_seconds + max(0.0, (now - replica.running_since).total_seconds())
