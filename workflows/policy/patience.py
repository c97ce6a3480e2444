"""How long a machine is kept on which no pod runs yet."""

from datetime import datetime, timedelta

from activities.signatures import StartReading
from api.timings import Timings
from workflows.policy.bounds import bounded
from workflows.state import Replica

LATER_VMS = 5
"""By so much the patience is shorter with the second and each later VM: the first one waited for a correction."""


def given_back_at(
    replica: Replica, reading: StartReading, hindered_since: datetime | None, timings: Timings, allowed: float
) -> datetime:
    """Compute when a VM goes back on which the replica's pod does not run.

    An image that is pulled and an init container that runs are at work, and have the ``allowed`` seconds, all together.
    Containerd gives up a pull that gets no byte for five minutes, so one that goes on makes progress. A pod that is
    kept from running waits for a correction, and one of which nothing is heard for ``startup_deadline``.
    """
    since = replica.since
    last = since + timedelta(seconds=bounded(allowed))
    if hindered_since is not None:
        patience = timings.correction_wait / (LATER_VMS if replica.in_vain > 0 else 1)
        return min(last, max(since, hindered_since) + timedelta(seconds=bounded(patience)))
    if reading.busy:
        return last
    progressed = max(since, reading.progressed_at) if reading.progressed_at else since
    return min(last, progressed + timedelta(seconds=bounded(timings.startup_deadline)))
