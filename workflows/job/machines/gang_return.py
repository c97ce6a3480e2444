"""The spot return of a gang: spot machines are bought for all on-demand members, and it moves once all are Ready.

They are spare machines like those with which a gang grows. Until they are Ready the gang trains on. It then saves
itself and starts again with them, and the on-demand machines are released.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events, reasons
    from workflows.job.machines.policy.spot_return import return_time

from workflows.job.core.job import Job
from workflows.job.machines.machines import Machines
from workflows.job.state.replica import Replica


class GangReturns:
    """Decides when the gangs of one job return to spot."""

    def __init__(self, job: Job, machines: Machines) -> None:
        self.job = job
        self.state = job.state
        self.machines = machines

    def begin(self, replica: Replica) -> None:
        """Begin the return of a gang if it is due."""
        if replica.spot_return.moving:
            return
        at = replica.spot_return.at = self.at(replica)
        if at is None:
            replica.spot_return.returns = False
        elif not replica.spot_return.returns and workflow.now() >= at:
            replica.spot_return.returns = True
            members = ", ".join(map(str, self.state.on_demand_members(replica)))
            self.job.event(
                events.SEEKS_SPOT, f"members {members} of replica {replica.index} run on-demand: looking for spot VMs"
            )

    def at(self, replica: Replica) -> datetime | None:
        """Return when to look for spot machines for a gang; None if it is on spot or meant to be on-demand."""
        members = self.state.on_demand_members(replica)
        if not members or self.state.vm_spec is None or not self.state.vm_spec.preemptible:
            return None
        vm = self.state.vm(replica.place.seats[members[0]].vm_key)
        return return_time(replica, vm, timedelta(seconds=self.state.timings.spot_return))

    def moves(self, replica: Replica) -> None:
        """Let a gang move once spot machines for all of its on-demand members are Ready."""
        if replica.spot_return.returns and len(replica.place.spare_nodes) >= self.returning(replica):
            replica.spot_return.moving = True
            self.job.touch()

    def returning(self, replica: Replica) -> int:
        """Count the members for which spot machines are bought."""
        return len(self.state.on_demand_members(replica)) if replica.spot_return.returns else 0

    def overdue_at(self, replica: Replica) -> datetime | None:
        """Return when to release spot machines that still wait for others; None if none exists."""
        vms = [self.state.vm(key) for key in replica.place.spare_keys if replica.spot_return.returns]
        existed = [vm.existed_at for vm in vms if vm is not None and vm.existed_at is not None]
        return min(existed) + timedelta(seconds=self.state.timings.gang_gathering) if existed else None

    async def give_up_late(self, replica: Replica) -> None:
        """Release the spot machines of a gang that could not be completed in time, and try again later."""
        overdue_at = self.overdue_at(replica)
        if overdue_at is None or workflow.now() < overdue_at or replica.spot_return.moving:
            return
        keys, replica.place.spare = replica.place.spare_keys, []
        replica.spot_return.give_up(until=workflow.now() + timedelta(seconds=self.state.timings.spot_return))
        await self.machines.release_each(keys, reasons.NOT_NEEDED)
