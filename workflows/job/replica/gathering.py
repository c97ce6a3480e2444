"""The machines of a gang: bought whole and in one zone, or none of them is kept."""

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons

from workflows.job.machines.policy.size import REPLACEMENT_SECONDS, goes_on_smaller, largest, restart_seconds
from workflows.job.replica.life import Part

SHORT = timedelta(hours=1)
"""How long a gang avoids a zone that could not hold all of it."""


class Gathering(Part):
    """Buys the machines of one gang."""

    def resize(self) -> None:
        """Look for machines for as many members as the spec has at most. Spare ones are used first."""
        if not self.me.proof and (self.me.place.spare or len(self.me.members) != self.job.spec.members):
            self.me.place.resize(self.job.spec.members)
            self.me.spot_return.end()
            self.me.spot_return.at = None
            for vm in self.state.vms_under(self.me):
                vm.spot_only = False  # it has lost its machines, so on-demand will do as well

    def goes_on_smaller(self, *, waited: bool = False) -> bool:
        """Leave the members without a Ready machine, if the spec allows it and it pays. True if they are left.

        With ``waited`` it has waited for long enough, whatever would pay.
        """
        place = self.me.place
        ready = len([seat for seat in [*place.seats, *place.spare] if seat.node is not None])
        size = largest(self.job.spec.gang, ready)
        if not 0 < size < len(place.seats) or self.me.run.live:
            return False
        pays = goes_on_smaller(restart_seconds(place), self._replacement_seconds())
        if not waited and not (self.me.has_run and pays):
            return False
        place.resize(size)
        if not place.bought:
            place.candidates = place.nodes
        place.gathers_since, self.me.retry.failures = None, 0
        self.job.event(
            events.GANG_SMALLER, f"replica {self.me.index} goes on with {size} of {self.job.spec.members} members"
        )
        self.life.enter("NodeReady", f"{size} of {self.job.spec.members} members have a machine")
        return True

    def _replacement_seconds(self) -> float | None:
        """Return how long the missing machines will take; None if nobody knows.

        That is so if the cloud has none at the moment. A gang on free GPUs would give these up for machines that are
        all to be bought.
        """
        if not self.me.place.bought:
            return None
        capacity = self.state.conditions.get(conditions.CAPACITY_AVAILABLE)
        if capacity is not None and capacity.status == "False":
            return None
        usual, since = self.me.place.gathered_seconds or REPLACEMENT_SECONDS, self.me.place.gathers_since
        waited = (workflow.now() - since).total_seconds() if since else 0.0
        return usual - waited if waited < usual else usual

    def buy(self) -> list[str]:
        """Record the VMs that are to be bought now, and return their keys.

        The first one shows which zone has capacity, so the others are bought once it exists.
        """
        place, alone = self.me.place, self.job.spec.in_one_zone and self.zone is None
        number = (0 if place.vm_keys else 1) if alone else place.missing
        keys = [self.machines.add(self.me) for _ in range(number)]
        for key in keys:
            place.buy(key)
        if place.is_gang:
            place.gathers_since = place.gathers_since or workflow.now()
        return keys

    @property
    def zone(self) -> str | None:
        """Return the zone of the machines that exist; None if there is none."""
        return self.machines.zone_of(self.me.place.vm_keys)

    @property
    def overdue_at(self) -> datetime | None:
        """Return when to release the machines that exist; None if none does, or if all are there or being made."""
        place, vms = self.me.place, self.state.vms_under(self.me)
        waits = place.missing or any(vm.to_be_bought for vm in vms)
        holds = any(not vm.to_be_bought for vm in vms)
        if place.gathers_since is None or not (waits and holds):
            return None
        return place.gathers_since + timedelta(seconds=self.state.timings.gang_gathering)

    async def gives_up(self) -> bool:
        """Release a gang that could not be completed in time. True if it was released."""
        overdue_at = self.overdue_at
        if overdue_at is None or workflow.now() < overdue_at:
            return False
        if self.goes_on_smaller(waited=True):
            return True
        place, zone, size = self.me.place, self.zone, len(self.me.members)
        held = len([vm for vm in self.state.vms_under(self.me) if not vm.to_be_bought])
        message = f"{held} of {size} machines could be bought in {zone or 'one zone'}"
        if zone is not None:
            place.short_zones = {**place.short_zones, zone: workflow.now() + SHORT}
        keys, place.gathers_since = place.vm_keys, None
        place.leave()
        await self.machines.release_each(keys, reasons.GANG_INCOMPLETE)
        told = f"{message}; they are released. Name more zones in the SpotInstanceVM, or a smaller gang.minSize"
        self.job.event(events.GANG_INCOMPLETE, f"replica {self.me.index}: {told}", warning=True)
        self.job.condition(conditions.CAPACITY_AVAILABLE, False, reasons.GANG_INCOMPLETE, told)
        self.life.back_off(message, in_vain=True)
        self.life.look_for_place(self.me.message)
        return True

    async def ensure(self, keys: list[str]) -> str | None:
        """Start the workflows of these VMs, or ask them for reports. Return the key of one that has ended, if any."""
        unknown = [key for key in keys if key not in self.state.vms]
        if unknown:
            return unknown[0]
        opens = (
            await asyncio.gather(*map(self.machines.ensure, keys))
            if len(keys) > 1
            else [await self.machines.ensure(key) for key in keys]
        )
        return next((key for key, is_open in zip(keys, opens, strict=True) if not is_open), None)
