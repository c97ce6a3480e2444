"""The VMs of the emulated cloud and what can be done to them, as operations that take their time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from sandbox.gce.addresses import Addresses
from sandbox.gce.blueprint import check_insert
from sandbox.gce.errors import (
    ApiError,
    OperationError,
    already_exists,
    not_found,
    not_ready,
    preempted_while_starting,
    quota_exceeded,
)
from sandbox.gce.faults import Faults
from sandbox.gce.images import Images
from sandbox.gce.instance import Instance, Superseded
from sandbox.gce.ledger import Happening, Ledger
from sandbox.gce.operations import Operation, Operations
from sandbox.gce.quotas import Quota, charges, exceeded
from sandbox.machines import MachineFactory

#: Emulated seconds that the steps of a VM's life take.
PROVISIONING_SECONDS = 3.0
STAGING_SECONDS = 2.0
STOPPING_SECONDS = 2.0

#: Emulated seconds that a delete or a stop leaves the operating system to shut down.
SHUTDOWN_SECONDS = 90.0

#: Real seconds between ACPI soft off and power off when a VM is preempted.
SOFT_OFF_SECONDS = 30.0


class Fleet:
    """All VMs by project, zone and name."""

    def __init__(
        self,
        machines: MachineFactory,
        operations: Operations,
        faults: Faults,
        addresses: Addresses,
        ledger: Ledger,
        scaled: Callable[[float], float],
    ) -> None:
        self.images = Images()
        self.networks = {"default"}
        self.logins: dict[str, list[str]] = {}
        """SSH keys by user name, of OS Login."""
        self._machines = machines
        self._operations = operations
        self._faults = faults
        self._addresses = addresses
        self._ledger = ledger
        self._scaled = scaled
        self._instances: dict[tuple[str, str, str], Instance] = {}
        self._preemptions: set[asyncio.Task[None]] = set()

    def all(self) -> list[Instance]:
        """Every VM that exists."""
        return list(self._instances.values())

    def get(self, project: str, zone: str, name: str) -> Instance:
        """The VM by name.

        Raises:
            ApiError: 404.
        """
        instance = self._instances.get((project, zone, name))
        if instance is None:
            raise not_found(f"projects/{project}/zones/{zone}/instances/{name}")
        return instance

    def charged(self, project: str) -> Counter[Quota]:
        """How much of each quota the project's VMs take."""
        mine = (vm for vm in self.all() if _uses_quota(vm, project))
        return sum((charges(vm.placement, vm.zone) for vm in mine), Counter[Quota]())

    def insert(self, project: str, zone: str, body: dict[str, Any], request_id: str | None) -> Operation:
        """Begin to make a VM.

        Raises:
            ApiError: for what is wrong with the body, 409 for a name that is taken, or a failure that shows at once.
        """
        blueprint = check_insert(body, project, zone, self.images, self.networks)
        name = blueprint.resource["name"]
        if (project, zone, name) in self._instances:
            raise already_exists(f"projects/{project}/zones/{zone}/instances/{name}")
        instance = Instance(
            project, zone, blueprint, self._addresses.take(zone), self._machines, self._ledger, self.logins
        )
        if error := self._shortage(instance, at_once=True):
            self._addresses.give_back(instance.address)
            raise error.as_api_error()
        self._instances[project, zone, name] = instance
        instance.record(Happening.REQUESTED)

        async def work() -> None:
            try:
                await instance.become(lambda: self._provision(instance))
            except Superseded:
                if instance.preempted:  # else its owner deleted it: nothing went wrong
                    raise preempted_while_starting(instance.name) from None

        return self._operations.start("insert", project, zone, instance.path, instance.id, work, request_id)

    def delete(self, instance: Instance, request_id: str | None) -> Operation:
        """Begin to delete a VM: soft off, then it is gone.

        Raises:
            ApiError: where it is protected, or deletes are being refused.
        """
        if instance.resource.get("deletionProtection"):
            message = "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'."
            raise ApiError(400, "invalidResourceUsage", message)
        self._faults.check_delete(instance.name, instance.path)
        if instance.deletion is not None:
            return instance.deletion
        instance.record(Happening.DELETE_REQUESTED)

        async def work() -> None:
            await instance.become(lambda: self._delete(instance))

        instance.deletion = self._change("delete", instance, work, request_id)
        return instance.deletion

    def stop(self, instance: Instance, request_id: str | None) -> Operation:
        """Begin to stop a VM: soft off, then TERMINATED.

        Raises:
            ApiError: where it is going already.
        """
        self._check_settled(instance)

        async def stop() -> None:
            await self._shut_down(instance, self._scaled(SHUTDOWN_SECONDS))
            await self._stopped(instance)

        async def work() -> None:
            if instance.status != "TERMINATED":
                await instance.become(stop)

        return self._change("stop", instance, work, request_id)

    def start(self, instance: Instance, request_id: str | None) -> Operation:
        """Begin to start a stopped VM; a zone may be out of capacity for it by now.

        Raises:
            ApiError: where it is still stopping, or being deleted.
        """
        self._check_settled(instance)

        async def work() -> None:
            if instance.status == "TERMINATED":
                await instance.become(lambda: self._provision(instance, keep_on_failure=True))

        return self._change("start", instance, work, request_id)

    def update(self, kind: str, instance: Instance, apply: Callable[[], None], request_id: str | None) -> Operation:
        """Apply a change of the resource that takes no time to speak of (labels, metadata)."""
        apply()

        async def work() -> None:
            return None

        return self._change(kind, instance, work, request_id)

    def simulate_maintenance(self, instance: Instance, request_id: str | None) -> Operation:
        """What the real API does for a rehearsal: a spot VM is preempted, another one is moved or restarted.

        Raises:
            ApiError: where the VM is not running.
        """
        if instance.status != "RUNNING":
            raise ApiError(400, "badRequest", f"Instance {instance.name} must be RUNNING, it is {instance.status}.")

        async def work() -> None:
            if instance.placement.spot:  # the operation ends once the event has begun, not half a minute later
                preemption = asyncio.create_task(self.preempt(instance, self.usual_notice(instance)))
                self._preemptions.add(preemption)
                preemption.add_done_callback(self._preemptions.discard)
            elif instance.resource["scheduling"]["onHostMaintenance"] == "TERMINATE":
                await instance.become(lambda: self._restart(instance))

        return self._change("compute.instances.simulateMaintenanceEvent", instance, work, request_id)

    def usual_notice(self, instance: Instance) -> float:
        """Real seconds from the notice until the power is off, as its owner chose them: 30 or 150."""
        return instance.notice_seconds + SOFT_OFF_SECONDS

    async def preempt(self, instance: Instance, notice: float) -> None:
        """Take a VM back: `notice` seconds from now everything in it is dead. Returns when it is TERMINATED or gone.

        Raises:
            ApiError: where it is going already.
            ValueError: where it is not a spot VM.
        """
        if not instance.placement.spot:
            raise ValueError(f"{instance.name} is not a spot VM: the cloud does not take it back")
        self._check_settled(instance)
        if instance.preempted or instance.status == "TERMINATED":
            raise not_ready(instance.path)
        instance.preempted = True
        try:
            await instance.become(lambda: self._preempt(instance, notice))
        except Superseded:
            return  # its owner deleted it first

    async def close(self) -> None:
        """Cut the power of every VM."""
        for preemption in self._preemptions:
            preemption.cancel()
        await asyncio.gather(*(instance.halt() for instance in self.all()))
        await asyncio.gather(*(instance.machine.power_off(0) for instance in self.all()))

    def _check_settled(self, instance: Instance) -> None:
        if instance.deletion is not None or instance.status == "STOPPING":
            raise not_ready(instance.path)

    def _shortage(self, instance: Instance, *, at_once: bool) -> OperationError | None:
        """What keeps this VM from being made now: a stockout, or a quota that the VMs before it have used up."""
        zone_path = f"projects/{instance.project}/zones/{instance.zone}"
        placement = instance.placement
        limits = self._faults.limits(instance.project, at_once=at_once)
        before = takewhile(lambda other: other is not instance, self.all())
        used = (charges(vm.placement, vm.zone) for vm in before if _uses_quota(vm, instance.project))
        if quota := exceeded(charges(placement, instance.zone), used, limits):
            region, metric = quota
            return quota_exceeded(metric, limits[quota], region=region)
        return self._faults.shortage(zone_path, placement.machine_type.name, placement.accelerators, at_once=at_once)

    def _change(self, kind: str, instance: Instance, work: Callable[[], Any], request_id: str | None) -> Operation:
        async def guarded() -> None:
            try:
                await work()
            except Superseded:
                raise OperationError(
                    "RESOURCE_NOT_READY",
                    f"The resource '{instance.path}' is not ready",
                    400,
                    reason="resourceNotReady",
                    details=[],
                ) from None

        return self._operations.start(
            kind, instance.project, instance.zone, instance.path, instance.id, guarded, request_id
        )

    # Transitions: each runs alone on its VM and may be cancelled at any await by a stronger one.

    async def _provision(self, instance: Instance, *, keep_on_failure: bool = False) -> None:
        instance.status = "PROVISIONING"
        instance.preempted = False
        await asyncio.sleep(self._scaled(PROVISIONING_SECONDS))
        if error := self._shortage(instance, at_once=False):
            if keep_on_failure:
                instance.status = "TERMINATED"
            else:
                self._forget(instance, Happening.FAILED)
            raise error
        instance.status = "STAGING"
        await asyncio.sleep(self._scaled(STAGING_SECONDS))
        if delay := self._faults.boot_delay(instance.zone):
            instance.status = "RUNNING"  # in the API's eyes: what the machine does nobody there knows
            await asyncio.sleep(delay)
        if mishaps := self._faults.mishaps(instance.zone):
            instance.machine.suffer(mishaps)
        await instance.machine.boot()
        instance.status = "RUNNING"
        instance.record(Happening.RUNNING)

    async def _preempt(self, instance: Instance, notice: float) -> None:
        if instance.status == "RUNNING":
            instance.record(Happening.NOTICE)
            await instance.machine.notice()
            await asyncio.sleep(max(0.0, notice - SOFT_OFF_SECONDS))
            instance.record(Happening.SOFT_OFF)
            await instance.machine.power_off(min(notice, SOFT_OFF_SECONDS))
        else:
            await instance.machine.power_off(0)  # taken back before it ran
        instance.status = "STOPPING"
        instance.record(Happening.PREEMPTED)
        self._operations.system_event(
            "compute.instances.preempted",
            instance.project,
            instance.zone,
            instance.path,
            instance.id,
            "Instance was preempted.",
        )
        if not instance.deleted_when_preempted:
            await self._stopped(instance)
            return
        await asyncio.sleep(self._scaled(STOPPING_SECONDS))
        self._forget(instance, Happening.DELETED)

    async def _restart(self, instance: Instance) -> None:
        await self._shut_down(instance, self._scaled(SHUTDOWN_SECONDS))
        await self._stopped(instance)
        if instance.resource["scheduling"]["automaticRestart"]:
            await self._provision(instance, keep_on_failure=True)

    async def _delete(self, instance: Instance) -> None:
        if instance.status != "TERMINATED":
            await self._shut_down(instance, self._scaled(SHUTDOWN_SECONDS))
        await asyncio.sleep(self._scaled(STOPPING_SECONDS))
        self._forget(instance, Happening.DELETED)

    async def _shut_down(self, instance: Instance, grace: float) -> None:
        running = instance.status == "RUNNING"
        instance.status = "STOPPING"
        instance.record(Happening.SOFT_OFF)
        await instance.machine.power_off(grace if running else 0)

    async def _stopped(self, instance: Instance) -> None:
        await asyncio.sleep(self._scaled(STOPPING_SECONDS))
        instance.status = "TERMINATED"
        instance.record(Happening.STOPPED)

    def _forget(self, instance: Instance, what: Happening) -> None:
        del self._instances[instance.project, instance.zone, instance.name]
        self._addresses.give_back(instance.address)
        instance.record(what)


def _uses_quota(vm: Instance, project: str) -> bool:
    return vm.project == project and vm.status != "TERMINATED"
