"""The spare machines of gangs, which are bought while the gang trains, so that it starts again with them.

An elastic gang that trains with fewer members grows by them. In any gang they replace machines that are about to go,
while it trains on through a long notice, and on-demand ones, when it returns to spot.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import events, reasons
    from workflows.job.machines.policy.size import largest, restart_seconds, starts_larger
    from workflows.policy.backoff import back_off
    from workflows.policy.loss_rate import PRIOR_PER_HOUR

from workflows.common.calls import explain
from workflows.job.core.job import Job
from workflows.job.machines.free_growth import FreeGrowth
from workflows.job.machines.gang_return import GangReturns
from workflows.job.machines.machines import Machines
from workflows.job.state.replica import Replica
from workflows.job.state.seats import Seat


class Growth:
    """Buys spare machines for the gangs of one job that have, or will soon have, fewer members than they may."""

    def __init__(self, job: Job, machines: Machines) -> None:
        self.job = job
        self.state = job.state
        self.machines = machines
        self.nodes = machines.nodes
        self.returns = GangReturns(job, machines)
        self.free = FreeGrowth(job, machines.nodes)

    async def run(self) -> None:
        """Watch the gangs until the job ends."""
        while not self.job.closing:
            await workflow.wait_condition(
                lambda: (
                    bool(self._wanting() or self._surplus() or self._on_demand() or self._short()) or self.job.closing
                )
            )
            if self.job.closing:
                return
            for replica in self._surplus():
                await self._release_all(replica)
            for replica in self._training():
                self.returns.begin(replica)
                await self.returns.give_up_late(replica)
            for replica in self._wanting():
                await self._release_lost(replica)
                await self._ensure(self._buy(replica))
                self._see(replica)
            for replica in self._short():
                await self.free.look(replica)
            seen, wanting = self._reports(), self._wanting()
            changed = await self.job.until(
                lambda seen=seen, wanting=wanting: (  # type: ignore[misc]
                    self.job.ending or self._reports() != seen or self._wanting() != wanting or bool(self._surplus())
                ),
                self._next(),
                "machines with which the gang may start again larger",
            )
            if not changed and not self.job.closing:
                await self._ensure([key for each in self._wanting() for key in each.place.spare_keys])

    def _wanting(self) -> list[Replica]:
        """List the gangs that train and need more machines than they have, and do not start again yet.

        Those on free GPUs of the cluster are not among them, but grow on such GPUs.
        """
        found = [each for each in self._training() if each.place.bought and not each.place.grows]
        return [each for each in found if self._remaining(each) < self.job.spec.members]

    def _short(self) -> list[Replica]:
        """List the gangs that may grow on free GPUs of the cluster."""
        return [each for each in self._training() if self.free.at(each) is not None]

    def _on_demand(self) -> list[Replica]:
        """List the gangs that may return to spot."""
        return [each for each in self._training() if self.returns.at(each) is not None]

    def _remaining(self, replica: Replica) -> int:
        """Count the members whose machines stay: neither about to go while the gang trains on, nor to be replaced."""
        going = self.nodes.lost_members(replica.place) if self.nodes.trains_until(replica) is not None else []
        returning = self.state.on_demand_members(replica) if replica.spot_return.returns else []
        return len(replica.members) - len({*going, *returning})

    def _training(self) -> list[Replica]:
        """List the gangs that train: this is asked at each step of every job."""
        if self.state.spec is None or (self.state.spec.gang is None and self.state.spec.members == 1):
            return []
        replicas = self.state.replicas.values()
        return [each for each in replicas if each.phase == "Running" and each.halt is None and not each.proof]

    def _surplus(self) -> list[Replica]:
        """List the gangs with spare machines and no use for them, because their sizes were edited."""
        return [each for each in self._training() if each.place.spare and self._has_all(each)]

    def _has_all(self, replica: Replica) -> bool:
        lost = {*self.nodes.lost_members(replica.place)}
        if replica.spot_return.returns:
            lost |= {*self.state.on_demand_members(replica)}
        return len(replica.members) - len(lost) >= self.job.spec.members

    async def _release_all(self, replica: Replica) -> None:
        keys, replica.place.spare = replica.place.spare_keys, []
        await self.machines.release_each(keys, reasons.NOT_NEEDED)

    def _reports(self) -> list[tuple[str, int, bool]]:
        """Describe what is known of the spare machines, to see that it has changed."""
        keys = [key for each in self.state.replicas.values() for key in each.place.spare_keys]
        return [(key, vm.reports if (vm := self.state.vm(key)) else 0, self.nodes.failed(key)) for key in keys]

    async def _release_lost(self, replica: Replica) -> None:
        """Release spare machines that were lost, or are still to be bought by an old spec. The next ones come later."""
        place = replica.place
        for seat in list(place.spare):
            vm, failed = self.state.vm(seat.vm_key), self.nodes.failed(seat.vm_key)
            if vm is not None and not failed and not vm.superseded:
                continue
            place.spare.remove(seat)
            if failed:
                self.machines.warn(seat.vm_key, "its node had a notice")
                place.spare_losses += 1
                place.spare_at = workflow.now() + back_off(place.spare_losses, self.state.timings.retry)
            await self.machines.release(seat.vm_key, reasons.NOT_NEEDED)

    def _buy(self, replica: Replica) -> list[str]:
        """Record the VMs that are missing, unless the last one was lost just now, and return their keys."""
        place = replica.place
        if place.spare_at is not None and workflow.now() < place.spare_at:
            return []
        missing = self.job.spec.members - self._remaining(replica) - len(place.spare)
        if self.job.spec.in_one_zone and self.machines.zone_of([*place.vm_keys, *place.spare_keys]) is None:
            missing = 0 if place.spare else min(missing, 1)  # the first one shows which zone has capacity
        keys = [self.machines.add(replica) for _ in range(missing)]
        for key in keys:
            self.state.vms[key].spot_only = replica.spot_return.returns
        place.spare += [Seat(vm_key=key) for key in keys]
        if keys and self.nodes.trains_until(replica) is not None:
            place.gathers_since = place.gathers_since or workflow.now()
        return keys

    async def _ensure(self, keys: list[str]) -> None:
        for key in keys:
            try:
                await self.machines.ensure(key)
            except ActivityError as error:
                workflow.logger.warning("spare %s: %s", key, explain(error)[1])

    def _see(self, replica: Replica) -> None:
        """Take in which spare machines are Ready, and let the gang start again if that pays."""
        place = replica.place
        for seat in place.spare:
            vm = self.state.vm(seat.vm_key)
            seat.node = vm.report.node_name if vm and vm.report and vm.ready else None
        self.returns.moves(replica)
        size = len(replica.members)
        larger = largest(self.job.spec.gang, size + len(place.spare_nodes))
        rate = self.state.losses_per_hour or PRIOR_PER_HOUR
        if larger <= size or self._remaining(replica) < size or workflow.now() < self._settled_at(replica):
            return
        if larger == self.job.spec.members or starts_larger(size, larger, restart_seconds(place), rate):
            place.grows, place.spare_losses, place.spare_at = True, 0, None
            self.job.event(events.GANG_LARGER, f"replica {replica.index} starts again with {larger} members")
            self.job.touch()

    def _settled_at(self, replica: Replica) -> datetime:
        """Return until when a gang is left alone after a start: as long as that start itself may have taken."""
        started_at = replica.run.running_since or workflow.now()
        return started_at + timedelta(seconds=restart_seconds(replica.place))

    def _next(self) -> datetime:
        times = [
            at for each in self._wanting() for at in (self._settled_at(each), each.place.spare_at) if at is not None
        ]
        times += [
            at
            for each in self._training()
            for at in (self.returns.at(each), self.returns.overdue_at(each), self.free.at(each))
            if at
        ]
        later = [at for at in times if at > workflow.now()]
        return min([self.job.next_check() if self._wanting() else self.job.next_look(), *later])
