"""The activities on VMs. Each may run twice, or twice at the same time, or be killed before its call is answered."""

import asyncio
from typing import Any

from temporalio import activity

from activities import signatures
from activities.cloud_errors import CloudError, Conflict, Transient, to_application_error
from activities.compute import Cloud, Compute
from activities.compute.instance import instance_body, placement_owner
from activities.heartbeat import heartbeats, watch, watch_seconds
from activities.join.ssh import SshKeys, login, public_key
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
from api import names
from api.market import Price
from api.views import VmView

OBSERVE_SECONDS = 25.0  # of watching a create operation in one activity; the last poll may take two calls more
PLACEMENT_SECONDS = 15.0  # for a new placement policy to be ready, within the time of one create call
# An instance in one of these states is being made; afterwards its create operation is over.
_BEING_MADE = {"PROVISIONING", "STAGING"}


class ComputeActivities:
    """Creates, watches and deletes VMs.

    Args:
        cloud: the cloud that runs the VMs.
        ssh_keys: the keys for the machines; the public half goes into the VM.
    """

    def __init__(self, cloud: Cloud, ssh_keys: SshKeys) -> None:
        self._cloud = cloud
        self._ssh_keys = ssh_keys

    @activity.defn(name=signatures.CREATE_VM.name)
    async def create_vm(self, create: CreateVm) -> VmOperation:
        """Ask for one instance. A second call finds the first one's operation, or the instance by its labels."""
        try:
            async with heartbeats():
                return await self._create(create)
        except CloudError as error:
            raise to_application_error(error) from error

    async def _create(self, create: CreateVm) -> VmOperation:
        vm = create.vm
        compute = await self._cloud.open(vm.credentials, vm.namespace)
        key = await self._ssh_keys.load(create.ssh_public_key_of, vm.namespace)
        if create.spec.gcp.ssh_access == "OSLogin":  # a refusal at this point costs no VM
            await login(compute, vm, key, create.ssh_public_key_of)
        body = instance_body(
            create.spec,
            name=vm.name,
            candidate=create.candidate,
            labels=vm.labels,
            ssh_public_key=public_key(key),
            placement=vm.placement,
        )
        if vm.placement:
            await self._ensure_placement(compute, vm, vm.placement)
        return VmOperation(name=await self._insert(compute, vm, body))

    async def _ensure_placement(self, compute: Compute, vm: VmRef, name: str) -> None:
        """Make the placement policy of a gang before the instance, which names it."""
        owner = owner_of(vm)
        ready = await watch(
            lambda: compute.ensure_placement(vm.project, vm.zone, name, owner), lambda ready: ready, PLACEMENT_SECONDS
        )
        if not ready:
            raise Transient(f"the placement policy {name} for {vm.zone} is not ready yet")

    async def _insert(self, compute: Compute, vm: VmRef, body: dict[str, Any]) -> str | None:
        try:
            return await compute.insert(vm.project, vm.zone, body, names.request_id(vm.name, vm.zone))
        except Conflict as conflict:
            found = await compute.get(vm.project, vm.zone, vm.name)
            if found is None:  # deleted between the two calls; the name is free at the next attempt
                raise Transient(f"{vm.name} in {vm.zone} is just being deleted") from conflict
            refuse_strangers(vm, found)
            return None

    @activity.defn(name=signatures.OBSERVE_CREATE.name)
    async def observe_create(self, observe: ObserveCreate) -> CreateProgress:
        """Watch a create operation until it is done, for :data:`OBSERVE_SECONDS` or as long as the caller allows."""
        vm = observe.vm
        try:
            async with heartbeats():
                compute = await self._cloud.open(vm.credentials, vm.namespace)
                return await watch(
                    lambda: self._look(compute, observe), lambda progress: progress.done, watch_seconds(OBSERVE_SECONDS)
                )
        except CloudError as error:
            raise to_application_error(error) from error

    async def _look(self, compute: Compute, observe: ObserveCreate) -> CreateProgress:
        vm = observe.vm
        operation = await compute.operation(vm.project, vm.zone, observe.operation) if observe.operation else None
        view = await self._view(compute, vm)
        if operation is None:  # unknown to us or, after some weeks, to GCE: the instance itself shows it
            return CreateProgress(done=view.status not in _BEING_MADE, vm=view)
        if operation.error is not None:
            error = operation.error
            return CreateProgress(done=True, error=error.type, message=str(error), scope=error.scope, vm=view)
        return CreateProgress(done=operation.done, vm=view)

    @activity.defn(name=signatures.OBSERVE_VM.name)
    async def observe_vm(self, vm: VmRef) -> VmView:
        """Read an instance; if the caller is patient, watch it until it no longer runs."""
        try:
            async with heartbeats():
                compute = await self._cloud.open(vm.credentials, vm.namespace)
                return await watch(lambda: self._view(compute, vm), lambda view: view.stopped, watch_seconds())
        except CloudError as error:
            raise to_application_error(error) from error

    async def _view(self, compute: Compute, vm: VmRef) -> VmView:
        """Read the instance as it is now; one that took over the name of ours counts as absent."""
        found = await compute.get(vm.project, vm.zone, vm.name)
        if found is None or (vm.instance_id and found.instance_id != vm.instance_id):
            return VmView(exists=False, name=vm.name, zone=vm.zone)
        return found

    @activity.defn(name=signatures.DELETE_VM.name)
    async def delete_vm(self, vm: VmRef) -> VmView:
        """Ask for an instance's deletion and return its state; repeat until it does not exist.

        Its placement policy is deleted once no instance names it.

        Only an instance with the labels of ``vm``, and with its id if that is known, is touched. GCE may refuse for
        minutes (``resourceNotReady``), which is raised as transient. For a patient caller the deletion is watched.
        """
        try:
            async with heartbeats():
                compute = await self._cloud.open(vm.credentials, vm.namespace)
                found = await self._delete(compute, vm)
                if vm.placement and not found.exists:  # the last machine of its gang can delete it
                    await compute.delete_placement(vm.project, vm.zone, vm.placement, owner_of(vm))
                return found
        except CloudError as error:
            raise to_application_error(error) from error

    async def _delete(self, compute: Compute, vm: VmRef) -> VmView:
        found = await self._view(compute, vm)
        if not found.exists:
            return found
        refuse_strangers(vm, found)
        if found.status != "STOPPING":  # GCE would refuse a second delete; this one is ours, or GCE's own
            await compute.delete(vm.project, vm.zone, vm.name)
        return await watch(lambda: self._view(compute, vm), lambda view: not view.exists, watch_seconds())

    @activity.defn(name=signatures.READ_PRICE.name)
    async def read_price(self, read: ReadPrice) -> Price:
        """Read the spot list price of a machine type with its GPUs."""
        try:
            compute = await self._cloud.open(read.credentials, read.namespace)
            return Price(usd_per_hour=await compute.spot_price(read.project, read.candidate))
        except CloudError as error:
            raise to_application_error(error) from error

    @activity.defn(name=signatures.FIND_PREEMPTED.name)
    async def find_preempted(self, find: FindPreempted) -> Preempted:
        """List the preempted VMs of each zone, all zones at once, for runs of a market that 0.2.0 or before began."""
        try:
            compute = await self._cloud.open(find.credentials, find.namespace)
            zones = [compute.preempted(find.project, zone, find.since) for zone in find.zones]
            return Preempted(vms=[vm for vms in await asyncio.gather(*zones) for vm in vms])
        except CloudError as error:
            raise to_application_error(error) from error


def owner_of(vm: VmRef) -> str:
    """Say whose the placement policy of an instance is."""
    return placement_owner(vm.labels.get(names.GCE_LABEL_CLUSTER, ""))


def refuse_strangers(vm: VmRef, found: VmView) -> None:
    """Refuse an instance without the labels of ours: it belongs to somebody else.

    Raises:
        Conflict: it does.
    """
    if any(found.labels.get(label) != value for label, value in vm.labels.items()):
        raise Conflict(
            f"the name {vm.name} in {vm.project}/{vm.zone} belongs to an instance without our labels; "
            "it was not touched: rename or delete it by hand if it is yours"
        )
