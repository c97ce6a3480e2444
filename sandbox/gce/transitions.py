"""What a VM goes through from one status to the next, with the time that each step takes.

Each transition runs alone on its VM (``Instance.become``), and a stronger one may cancel it at any ``await``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sandbox.gce.faults import Faults
from sandbox.gce.instance import Instance
from sandbox.gce.inventory import Inventory
from sandbox.gce.ledger import Happening
from sandbox.gce.operations import Operations

PROVISIONING_SECONDS = 3.0
STAGING_SECONDS = 2.0
STOPPING_SECONDS = 2.0
"""Emulated seconds that the steps of a VM's life take."""

SHUTDOWN_SECONDS = 90.0
"""Emulated seconds that a delete or a stop gives the operating system to shut down."""

SOFT_OFF_SECONDS = 30.0
"""Real seconds between ACPI soft off and power off when a VM is preempted."""


class Transitions:
    """The transitions of the VMs of one cloud. ``scaled`` turns emulated seconds into real ones."""

    def __init__(
        self, inventory: Inventory, operations: Operations, faults: Faults, scaled: Callable[[float], float]
    ) -> None:
        self._inventory = inventory
        self._operations = operations
        self._faults = faults
        self._scaled = scaled

    async def provision(self, instance: Instance, *, keep_on_failure: bool = False) -> None:
        """Make and boot a VM, or start a stopped one, which is kept if that fails (``keep_on_failure``).

        Raises:
            OperationError: the zone has no capacity for it, or a quota is used up.
        """
        instance.status = "PROVISIONING"
        instance.preempted = False
        await asyncio.sleep(self._scaled(PROVISIONING_SECONDS))
        if error := self._inventory.shortage(instance, at_once=False):
            if keep_on_failure:
                instance.status = "TERMINATED"
            else:
                self._inventory.remove(instance, Happening.FAILED)
            raise error
        instance.status = "STAGING"
        await asyncio.sleep(self._scaled(STAGING_SECONDS))
        if delay := self._faults.boot_delay(instance.zone):
            instance.status = "RUNNING"  # as the API sees it, which does not know what the machine does
            await asyncio.sleep(delay)
        if mishaps := self._faults.mishaps(instance.zone):
            instance.machine.suffer(mishaps)
        await instance.machine.boot()
        instance.status = "RUNNING"
        instance.record(Happening.RUNNING)

    async def preempt(self, instance: Instance, notice: float) -> None:
        """Announce the preemption of a spot VM, and power it off ``notice`` real seconds later."""
        if instance.status == "RUNNING":
            instance.record(Happening.NOTICE)
            await instance.machine.notice()
            await asyncio.sleep(max(0.0, notice - SOFT_OFF_SECONDS))
            instance.record(Happening.SOFT_OFF)
            await instance.machine.power_off(min(notice, SOFT_OFF_SECONDS))
        else:
            await instance.machine.power_off(0)  # preempted before it ran
        instance.status = "STOPPING"
        instance.record(Happening.PREEMPTED)
        self._operations.system_event("compute.instances.preempted", instance.target, "Instance was preempted.")
        if not instance.deleted_when_preempted:
            await self._end_stopped(instance)
            return
        await asyncio.sleep(self._scaled(STOPPING_SECONDS))
        self._inventory.remove(instance, Happening.DELETED)

    async def restart(self, instance: Instance) -> None:
        """Stop a VM that cannot be migrated, and start it again if its owner chose that."""
        await self.stop(instance)
        if instance.resource["scheduling"]["automaticRestart"]:
            await self.provision(instance, keep_on_failure=True)

    async def stop(self, instance: Instance) -> None:
        """Shut a VM down, and keep it TERMINATED."""
        await self._shut_down(instance)
        await self._end_stopped(instance)

    async def delete(self, instance: Instance) -> None:
        """Shut a VM down, and remove it."""
        if instance.status != "TERMINATED":
            await self._shut_down(instance)
        await asyncio.sleep(self._scaled(STOPPING_SECONDS))
        self._inventory.remove(instance, Happening.DELETED)

    async def _shut_down(self, instance: Instance) -> None:
        grace = self._scaled(SHUTDOWN_SECONDS) if instance.status == "RUNNING" else 0
        instance.status = "STOPPING"
        instance.record(Happening.SOFT_OFF)
        await instance.machine.power_off(grace)

    async def _end_stopped(self, instance: Instance) -> None:
        await asyncio.sleep(self._scaled(STOPPING_SECONDS))
        instance.status = "TERMINATED"
        instance.record(Happening.STOPPED)


def usual_notice(instance: Instance) -> float:
    """Return the real seconds from the notice until the power is off, as the VM's owner chose them: 30 or 150."""
    return instance.notice_seconds + SOFT_OFF_SECONDS
