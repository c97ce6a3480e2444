"""How long a gang trains on after a notice: saving takes it seconds, and the notice may leave minutes.

Training on costs nothing until the last moment at which all members can still save themselves. Once the machines that
replace the lost ones are Ready there is nothing more to wait for, because the restart takes as long now as later.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from workflows.job.machines.policy.losses import lost_members
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica
from workflows.job.state.seats import Seat
from workflows.policy.notice import last_moment

LEAST = timedelta(seconds=30)
"""The time that a save always gets, however quick the last ones were: the usual notice, which is used at once."""


def stops_at(ends: Sequence[datetime | None], saves: Sequence[float]) -> datetime | None:
    """Return when to stop a gang so that it has saved itself before the first of its machines goes; None for at once.

    Args:
        ends: When each of the machines that go is shut down; None if nobody says when.
        saves: The seconds that the last saves took, from SIGTERM to the end of all pods. Of the first one nothing is
            known, so it is made at once.
    """
    known = [end for end in ends if end is not None]
    if not saves or not known or len(known) < len(ends):
        return None
    return min(last_moment(min(known), saves), min(known) - LEAST)


def trains_until(state: JobState, replica: Replica, now: datetime) -> datetime | None:
    """Return until when a gang trains on although machines of it are about to go; None if it does not.

    It does so only if nothing else is wrong: all pods run, and the machines still do, too.
    """
    place = replica.place
    lost = [place.seats[member] for member in lost_members(state, place, now)]
    if not place.is_gang or not lost or replica.phase != "Running" or not replica.all_run:
        return None
    if not all(_runs(state, seat) for seat in lost) or len(place.spare_nodes) >= len(lost):
        return None
    notices = [state.notice(seat.node) for seat in lost]
    at = stops_at([notice.ends_at if notice else None for notice in notices], place.save_seconds)
    return at if at is not None and now < at else None


def _runs(state: JobState, seat: Seat) -> bool:
    """True if a machine that has had a notice is not known to be going already."""
    node, vm = state.node(seat.node), state.vm(seat.vm_key)
    if seat.node in state.unready or (node is not None and not node.exists):
        return False
    return vm is None or not vm.failed or (vm.report is not None and vm.report.stage == "Noticed")
