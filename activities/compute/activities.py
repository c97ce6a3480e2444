"""The activities on VMs. All may run twice, at once, or be killed between the call and its answer."""

import asyncio
import time
from typing import Any

from temporalio import activity

from activities import signatures
from activities.cloud_errors import CloudError, Conflict, Transient, to_application_error
from activities.compute import Cloud, Compute
from activities.compute.instance import instance_body
from activities.heartbeat import heartbeats
from activities.signatures import (
    CreateProgress,
    CreateVm,
    FindPreempted,
    ObserveCreate,
    Preempted,
    ReadPrice,
    VmOperation,
    VmRef,
)
from activities.ssh import SshKeys, login, public_key
from api import names
from api.market import Price
from api.views import VmView

OBSERVE_SECONDS = 25.0  # of watching a create operation in one activity; the last look may take two calls more
POLL_SECONDS = (0.5, 4.0)  # first and longest pause between two looks

# While an instance has one of these it is being made; afterwards its create operation is over.
_BEING_MADE = {"PROVISIONING", "STAGING"}


class ComputeActivities:
    """Creates, watches and deletes VMs.

    Args:
        cloud: where the VMs are.
        ssh_keys: of the machines; the public half goes into the VM.
    """

    def __init__(self, cloud: Cloud, ssh_keys: SshKeys) -> None:
        self._cloud = cloud
        self._ssh_keys = ssh_keys

    @activity.defn(name=signatures.CREATE_VM.name)
    async def create_vm(self, create: CreateVm) -> VmOperation:
        """Ask for one instance. A second call finds the first one's operation, or the instance by its labels."""
        vm = create.vm
        try:
            compute = await self._cloud.open(vm.credentials, vm.namespace)
            key = await self._ssh_keys.load(create.ssh_public_key_of, vm.namespace)
            if create.spec.gcp.ssh_access == "OSLogin":  # what is refused here costs no VM
                await login(compute, vm, key, create.ssh_public_key_of)
            body = instance_body(
                create.spec,
                name=vm.name,
                candidate=create.candidate,
                labels=vm.labels,
                ssh_public_key=public_key(key),
            )
            return VmOperation(name=await self._insert(compute, vm, body))
        except CloudError as error:
            raise to_application_error(error) from error

    async def _insert(self, compute: Compute, vm: VmRef, body: dict[str, Any]) -> str | None:
        try:
            return await compute.insert(vm.project, vm.zone, body, names.request_id(vm.name, vm.zone))
        except Conflict as conflict:
            found = await compute.get(vm.project, vm.zone, vm.name)
            if found is None:  # gone between the two calls; the name is free again at the next try
                raise Transient(f"{vm.name} in {vm.zone} is just being deleted") from conflict
            refuse_strangers(vm, found)
            return None

    @activity.defn(name=signatures.OBSERVE_CREATE.name)
    async def observe_create(self, observe: ObserveCreate) -> CreateProgress:
        """Watch a create operation until it is done, for :data:`OBSERVE_SECONDS` at most."""
        vm = observe.vm
        deadline = time.monotonic() + OBSERVE_SECONDS
        pause, longest = POLL_SECONDS
        try:
            async with heartbeats():
                compute = await self._cloud.open(vm.credentials, vm.namespace)
                while True:
                    progress = await self._look(compute, observe)
                    if progress.done or time.monotonic() + pause > deadline:
                        return progress
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, longest)
        except CloudError as error:
            raise to_application_error(error) from error

    async def _look(self, compute: Compute, observe: ObserveCreate) -> CreateProgress:
        vm = observe.vm
        operation = await compute.operation(vm.project, vm.zone, observe.operation) if observe.operation else None
        view = await self._view(compute, vm)
        if operation is None:  # unknown to us or, after some weeks, to GCE: the instance itself tells
            return CreateProgress(done=view.status not in _BEING_MADE, vm=view)
        if operation.error is not None:
            error = operation.error
            return CreateProgress(done=True, error=error.type, message=str(error), scope=error.scope, vm=view)
        return CreateProgress(done=operation.done, vm=view)

    @activity.defn(name=signatures.OBSERVE_VM.name)
    async def observe_vm(self, vm: VmRef) -> VmView:
        """Read an instance."""
        try:
            return await self._view(await self._cloud.open(vm.credentials, vm.namespace), vm)
        except CloudError as error:
            raise to_application_error(error) from error

    async def _view(self, compute: Compute, vm: VmRef) -> VmView:
        """The instance as it is now; one that took the name over after ours had gone is not ours: absent."""
        found = await compute.get(vm.project, vm.zone, vm.name)
        if found is None or (vm.instance_id and found.instance_id != vm.instance_id):
            return VmView(exists=False, name=vm.name, zone=vm.zone)
        return found

    @activity.defn(name=signatures.DELETE_VM.name)
    async def delete_vm(self, vm: VmRef) -> VmView:
        """Ask for an instance's deletion and say how it stands; repeat until it does not exist.

        Only an instance with the labels, and where known the id, of ``vm`` is touched. GCE may refuse for minutes
        (``resourceNotReady``): that is raised as transient.
        """
        try:
            compute = await self._cloud.open(vm.credentials, vm.namespace)
            found = await self._view(compute, vm)
            if not found.exists:
                return found
            refuse_strangers(vm, found)
            if found.status != "STOPPING":  # a delete under way, or GCE's own: it shall not be refused once more
                await compute.delete(vm.project, vm.zone, vm.name)
            return await self._view(compute, vm)
        except CloudError as error:
            raise to_application_error(error) from error

    @activity.defn(name=signatures.READ_PRICE.name)
    async def read_price(self, read: ReadPrice) -> Price:
        """The spot list price of a machine type with its GPUs."""
        try:
            compute = await self._cloud.open(read.credentials, read.namespace)
            return Price(usd_per_hour=await compute.spot_price(read.project, read.candidate))
        except CloudError as error:
            raise to_application_error(error) from error

    @activity.defn(name=signatures.FIND_PREEMPTED.name)
    async def find_preempted(self, find: FindPreempted) -> Preempted:
        """One list a zone, side by side."""
        try:
            compute = await self._cloud.open(find.credentials, find.namespace)
            zones = [compute.preempted(find.project, zone, find.since) for zone in find.zones]
            return Preempted(vms=[vm for vms in await asyncio.gather(*zones) for vm in vms])
        except CloudError as error:
            raise to_application_error(error) from error


def refuse_strangers(vm: VmRef, found: VmView) -> None:
    """An instance without the labels that ours bears is somebody else's.

    Raises:
        Conflict: it is.
    """
    if any(found.labels.get(label) != value for label, value in vm.labels.items()):
        raise Conflict(
            f"the name {vm.name} in {vm.project}/{vm.zone} belongs to an instance without our labels; "
            "it was not touched: rename or delete it by hand if it is yours"
        )
