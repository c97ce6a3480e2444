"""The growth of gangs on free GPUs of the cluster: nobody tells when another pod leaves one, so they are looked for.

A gang on bought machines grows by bought ones (``growth.py``). The two are not mixed: a machine that is bought may be
in another zone than the free GPUs, and the scheduler could swap them.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from workflows.job.machines.policy.size import largest, restart_seconds, starts_larger
    from workflows.policy.backoff import back_off
    from workflows.policy.loss_rate import PRIOR_PER_HOUR

from workflows.common.calls import call, explain
from workflows.job.core.job import Job
from workflows.job.machines.nodes import Nodes
from workflows.job.state.replica import Replica
from workflows.job.state.seats import Seat


class FreeGrowth:
    """Looks for free GPUs for the gangs of one job that are on such GPUs and have fewer members than they may.

    The pauses between two looks grow to a resync, so that a gang which stays small costs one call an hour.
    """

    def __init__(self, job: Job, nodes: Nodes) -> None:
        self.job = job
        self.state = job.state
        self.nodes = nodes

    def at(self, replica: Replica) -> datetime | None:
        """Return when to look for free GPUs for a gang; None if it needs none, or may not use them."""
        place, gang = replica.place, self.job.spec.gang
        if gang is None or place.bought or place.grows or len(replica.members) >= gang.max_size:
            return None
        if self.nodes.lost_members(place):
            return None
        settled_at = (replica.run.running_since or workflow.now()) + timedelta(seconds=restart_seconds(place))
        return max(settled_at, place.spare_at or settled_at)

    async def look(self, replica: Replica) -> None:
        """Look for free GPUs if that is due, and let the gang start again with them if that pays."""
        at, incarnation = self.at(replica), replica.incarnation
        if at is None or workflow.now() < at:
            return
        place = replica.place
        place.spare_losses += 1
        ceiling = max(1.0, self.state.timings.resync / self.job.check_seconds)
        place.spare_at = workflow.now() + back_off(place.spare_losses, self.job.check_seconds, ceiling=ceiling)
        try:
            request = self.nodes.search_for(replica, members=1)
            found = await call(act.FIND_CAPACITY, request, summary=f"replica {replica.index}: can it grow?")
        except ActivityError as error:
            workflow.logger.warning("free GPUs for replica %s: %s", replica.index, explain(error)[1])
            return
        if self._still_trains(replica, incarnation):
            self._grow(replica, found.nodes)

    def _still_trains(self, replica: Replica, incarnation: int) -> bool:
        return (replica.phase, replica.halt, replica.incarnation) == ("Running", None, incarnation) and (
            self.at(replica) is not None
        )

    def _grow(self, replica: Replica, nodes: list[str]) -> None:
        place, size = replica.place, len(replica.members)
        larger = largest(self.job.spec.gang, size + len(nodes))
        rate = self.state.losses_per_hour or PRIOR_PER_HOUR
        if larger <= size:
            return
        if larger == self.job.spec.members or starts_larger(size, larger, restart_seconds(place), rate):
            place.spare, place.grows = [Seat(node=node) for node in nodes[: larger - size]], True
            message = f"replica {replica.index} starts again with {larger} members, on free GPUs of the cluster"
            self.job.event(events.GANG_LARGER, message)
            self.job.touch()
