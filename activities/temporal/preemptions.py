"""The watch for preempted machines: it reads the cloud's operations and tells the VMs' workflows."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import signatures
from activities.cloud_errors import CloudError, Transient
from activities.compute import Cloud
from activities.signatures import WatchedPreempted, WatchPreempted
from api import names
from api.market import OPERATION_LAG, PREEMPTED, PreemptedVm
from api.messages import PreemptionNotice

LONGEST_PAUSE = 60.0
"""The most seconds between two reads while the cloud refuses or does not answer."""

AT_ONCE = 20
"""How many VMs are told at the same time."""

RPC_SECONDS = timedelta(seconds=5)

log = logging.getLogger(__name__)


class PreemptionActivities:
    """Finds the machines that the cloud preempted.

    Args:
        temporal: the service that runs the VMs' workflows.
        cloud: the cloud that runs the VMs.
    """

    def __init__(self, temporal: Client, cloud: Cloud) -> None:
        self._temporal = temporal
        self._cloud = cloud

    @activity.defn(name=signatures.WATCH_PREEMPTED.name)
    async def watch_preempted(self, watch: WatchPreempted) -> WatchedPreempted:
        """Read every few seconds and tell the VMs, until the time is over or the worker stops. Failures are repeated.

        A VM may be told twice, which changes nothing.
        """
        deadline = time.monotonic() + watch.seconds
        told, since, looked_at, failures = dict.fromkeys(watch.told), watch.since, None, 0
        while True:
            began = datetime.now(UTC)
            found = await self._find(watch, since)
            fresh = [vm for vm in found or [] if vm.operation not in told]
            delivered = await self._tell(fresh)
            told |= dict.fromkeys(delivered)
            if found is None or len(delivered) < len(fresh):
                failures += 1
            else:
                since = looked_at = began - OPERATION_LAG
                failures = 0
            pause = min(watch.every * 2 ** min(failures, 10), max(watch.every, LONGEST_PAUSE))
            left = deadline - time.monotonic()
            if left <= 0 or await _stops_within(min(pause, left)):
                return WatchedPreempted(looked_at=looked_at, told=list(told)[-signatures.MOST_TOLD :])

    async def _find(self, watch: WatchPreempted, since: datetime) -> list[PreemptedVm] | None:
        """Ask with one key after another: some may be revoked, or gone with their namespace. None if none helps."""
        for asker in watch.askers:
            try:
                compute = await self._cloud.open(asker.credentials, asker.namespace)
                zones = (compute.preempted(watch.project, zone, since) for zone in watch.zones)
                return [vm for vms in await asyncio.gather(*zones) for vm in vms]
            except CloudError as error:
                log.warning("preempted operations of %s: %s", watch.project, error)
                if isinstance(error, Transient):  # the cloud does not answer, whoever asks
                    return None
        return None

    async def _tell(self, vms: list[PreemptedVm]) -> list[str]:
        """Tell the VMs, and return the operations of those that were reached. The others are read and told again."""
        at_once = asyncio.Semaphore(AT_ONCE)

        async def tell(vm: PreemptedVm) -> bool:
            async with at_once:
                try:
                    await self._tell_one(vm.name)
                except RPCError as error:
                    log.warning("the preemption of %s: %s", vm.name, error)
                    return False
            return True

        reached = await asyncio.gather(*(tell(vm) for vm in vms))
        return [vm.operation for vm, was_reached in zip(vms, reached, strict=True) if was_reached]

    async def _tell_one(self, name: str) -> None:
        """Tell the workflow of one VM. Another cluster's VM, or one that has ended, has none here."""
        key = names.vm_key_of(name)
        if key is None:
            return
        notice = PreemptionNotice(node=name, source=PREEMPTED)
        handle = self._temporal.get_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("preemption_notice", notice, rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise


async def _stops_within(seconds: float) -> bool:
    """Wait; True if the worker stops meanwhile, so that another worker can go on at once."""
    try:
        async with asyncio.timeout(seconds):
            await activity.wait_for_worker_shutdown()
    except TimeoutError:
        return False
    return True
