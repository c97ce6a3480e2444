"""What can be done to the VMs of the emulated cloud: requests that are checked, then carried out as operations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sandbox.gce.blueprint import check_insert
from sandbox.gce.errors import ApiError, OperationError, already_exists, not_ready, preempted_while_starting
from sandbox.gce.faults import Faults
from sandbox.gce.images import Images
from sandbox.gce.instance import Instance, Superseded
from sandbox.gce.inventory import Inventory
from sandbox.gce.ledger import Happening, Ledger
from sandbox.gce.operations import Operation, Operations
from sandbox.gce.policies import Policies
from sandbox.gce.transitions import Transitions, usual_notice
from sandbox.machines import MachineFactory
from sandbox.settings import Settings


class Fleet:
    """Carries out the requests that change VMs. Those that read VMs ask ``inventory``."""

    def __init__(
        self, settings: Settings, machines: MachineFactory, operations: Operations, faults: Faults, ledger: Ledger
    ) -> None:
        self.inventory = Inventory(faults, settings.machine_network)
        self.images = Images()
        self.policies = Policies(settings.scaled)
        self.networks = {"default"}
        self.logins: dict[str, list[str]] = {}
        """SSH keys by user name, of OS Login."""
        self._machines = machines
        self._operations = operations
        self._faults = faults
        self._ledger = ledger
        self._transitions = Transitions(self.inventory, operations, faults, settings.scaled)
        self._preemptions: set[asyncio.Task[None]] = set()

    def insert(self, project: str, zone: str, body: dict[str, Any], request_id: str | None) -> Operation:
        """Begin to make a VM.

        Raises:
            ApiError: the body is wrong, the name is taken (409), or a shortage shows at once.
        """
        blueprint = check_insert(body, project, zone, self.images, self.networks, self.policies)
        if self.inventory.has(project, zone, blueprint.name):
            raise already_exists(f"projects/{project}/zones/{zone}/instances/{blueprint.name}")
        address = self.inventory.take_address(zone)
        instance = Instance(blueprint, address, self._machines, self._ledger, self.logins)
        if error := self.inventory.shortage(instance, at_once=True):
            self.inventory.give_back(address)
            raise error.as_api_error()
        self.inventory.add(instance)
        instance.record(Happening.REQUESTED)

        async def work() -> None:
            try:
                await instance.become(lambda: self._transitions.provision(instance))
            except Superseded:
                if instance.preempted:  # otherwise its owner deleted it, and nothing went wrong
                    raise preempted_while_starting(instance.name) from None

        return self._operations.start("insert", instance.target, work, request_id)

    def delete(self, instance: Instance, request_id: str | None) -> Operation:
        """Begin to delete a VM: soft off, then it is gone.

        Raises:
            ApiError: it is protected, or deletes are being refused.
        """
        if instance.resource.get("deletionProtection"):
            message = "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'."
            raise ApiError(400, "invalidResourceUsage", message)
        self._faults.check_delete(instance.name, instance.target.path)
        if instance.deletion is not None:
            return instance.deletion
        instance.record(Happening.DELETE_REQUESTED)

        async def work() -> None:
            await instance.become(lambda: self._transitions.delete(instance))

        instance.deletion = self._change("delete", instance, work, request_id)
        return instance.deletion

    def stop(self, instance: Instance, request_id: str | None) -> Operation:
        """Begin to stop a VM: soft off, then TERMINATED.

        Raises:
            ApiError: it is stopping or being deleted already.
        """
        _check_settled(instance)

        async def work() -> None:
            if instance.status != "TERMINATED":
                await instance.become(lambda: self._transitions.stop(instance))

        return self._change("stop", instance, work, request_id)

    def start(self, instance: Instance, request_id: str | None) -> Operation:
        """Begin to start a stopped VM, for which the zone may have no capacity by now.

        Raises:
            ApiError: it is still stopping, or being deleted.
        """
        _check_settled(instance)

        async def work() -> None:
            if instance.status == "TERMINATED":
                await instance.become(lambda: self._transitions.provision(instance, keep_on_failure=True))

        return self._change("start", instance, work, request_id)

    def update(self, kind: str, instance: Instance, apply: Callable[[], None], request_id: str | None) -> Operation:
        """Apply a change of the resource that takes next to no time (labels, metadata)."""
        apply()

        async def work() -> None:
            return None

        return self._change(kind, instance, work, request_id)

    def simulate_maintenance(self, instance: Instance, request_id: str | None) -> Operation:
        """Rehearse a maintenance event, as the real API does: a spot VM is preempted, another one restarted or moved.

        Raises:
            ApiError: the VM is not running.
        """
        if instance.status != "RUNNING":
            raise ApiError(400, "badRequest", f"Instance {instance.name} must be RUNNING, it is {instance.status}.")

        async def work() -> None:
            if instance.placement.spot:  # the operation ends once the event has begun, not half a minute later
                preemption = asyncio.create_task(self.preempt(instance))
                self._preemptions.add(preemption)
                preemption.add_done_callback(self._preemptions.discard)
            elif instance.resource["scheduling"]["onHostMaintenance"] == "TERMINATE":
                await instance.become(lambda: self._transitions.restart(instance))

        return self._change("compute.instances.simulateMaintenanceEvent", instance, work, request_id)

    async def preempt(self, instance: Instance, notice: float | None = None) -> None:
        """Preempt a VM: everything in it is dead ``notice`` seconds from now, or after its own notice if None.

        Returns once it is TERMINATED or gone.

        Raises:
            ApiError: it is stopping or being deleted already.
            ValueError: it is not a spot VM.
        """
        if not instance.placement.spot:
            raise ValueError(f"{instance.name} is not a spot VM: the cloud does not preempt it")
        _check_settled(instance)
        if instance.preempted or instance.status == "TERMINATED":
            raise not_ready(instance.target.path)
        instance.preempted = True
        seconds = usual_notice(instance) if notice is None else notice
        try:
            await instance.become(lambda: self._transitions.preempt(instance, seconds))
        except Superseded:
            return  # its owner deleted it first

    async def close(self) -> None:
        """Cut the power of every VM."""
        for preemption in self._preemptions:
            preemption.cancel()
        await asyncio.gather(*(instance.halt() for instance in self.inventory.all()))
        await asyncio.gather(*(instance.machine.power_off(0) for instance in self.inventory.all()))

    def _change(
        self, kind: str, instance: Instance, work: Callable[[], Awaitable[None]], request_id: str | None
    ) -> Operation:
        async def guarded() -> None:
            try:
                await work()
            except Superseded:
                raise OperationError(
                    "RESOURCE_NOT_READY",
                    f"The resource '{instance.target.path}' is not ready",
                    400,
                    reason="resourceNotReady",
                    details=[],
                ) from None

        return self._operations.start(kind, instance.target, guarded, request_id)


def _check_settled(instance: Instance) -> None:
    if instance.deletion is not None or instance.status == "STOPPING":
        raise not_ready(instance.target.path)
