"""How long a machine is kept while no pod runs on it yet."""

from datetime import datetime, timedelta

from activities.signatures import StartReading
from api.timings import Timings
from workflows.job.state.replica import Replica
from workflows.policy.bounds import bounded

LATER_VMS = 5
"""The wait for a correction is this many times shorter from the second VM on: the first one has waited already."""


def released_at(
    replica: Replica, reading: StartReading, blocked_since: datetime | None, timings: Timings, allowed: float
) -> datetime:
    """Return when to release a VM on which the replica's pod does not run.

    - While an image is pulled or an init container runs, the pod has ``allowed`` seconds in all. Containerd gives up a
      pull that receives no byte for five minutes, so a pull that goes on makes progress.
    - A blocked pod has ``correction_wait``, since ``blocked_since``.
    - A pod about which nothing is known has ``startup_deadline``.
    """
    since = replica.since
    last = since + timedelta(seconds=bounded(allowed))
    if blocked_since is not None:
        patience = timings.correction_wait / (LATER_VMS if replica.retry.in_vain > 0 else 1)
        return min(last, max(since, blocked_since) + timedelta(seconds=bounded(patience)))
    if reading.busy:
        return last
    progressed = max(since, reading.progressed_at) if reading.progressed_at else since
    return min(last, progressed + timedelta(seconds=bounded(timings.startup_deadline)))
