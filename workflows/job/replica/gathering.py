"""The machines of a gang: bought whole and in one zone, or none of them is kept."""

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons

from workflows.job.replica.life import Part

SHORT = timedelta(hours=1)
"""How long a gang avoids a zone that could not hold all of it."""


class Gathering(Part):
    """Buys the machines of one gang."""

    def resize(self) -> list[str]:
        """Take over the size that the spec has now, and return the keys of the VMs that are too many."""
        if self.me.proof or len(self.me.members) == self.job.spec.members:
            return []
        return self.me.place.resize(self.job.spec.members)

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
        place, zone, size = self.me.place, self.zone, len(self.me.members)
        held = len([vm for vm in self.state.vms_under(self.me) if not vm.to_be_bought])
        message = f"{held} of {size} machines could be bought in {zone or 'one zone'}"
        if zone is not None:
            place.short_zones = {**place.short_zones, zone: workflow.now() + SHORT}
        keys, place.gathers_since = place.vm_keys, None
        place.leave()
        await self.machines.release_each(keys, reasons.GANG_INCOMPLETE)
        self.job.event(events.GANG_INCOMPLETE, f"replica {self.me.index}: {message}; they are released", warning=True)
        self.job.condition(conditions.CAPACITY_AVAILABLE, False, reasons.GANG_INCOMPLETE, message)
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
