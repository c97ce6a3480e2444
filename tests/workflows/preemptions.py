"""The world's watch for preempted machines: it tells a VM's workflow some seconds after the cloud's operation."""

import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import signatures as act
from api import names
from api.market import PREEMPTED
from api.messages import PreemptionNotice
from tests.workflows.cloud import Cloud


class Preemptions:
    """Looks whenever there is something to see: a look that finds nothing has no effect."""

    def __init__(self, client: Client, cloud: Cloud) -> None:
        self._client = client
        self._cloud = cloud

    async def watch_preempted(self, watch: act.WatchPreempted) -> act.WatchedPreempted:
        clock, told = self._cloud.clock, list(watch.told)
        end = clock.now + timedelta(seconds=watch.seconds)
        while True:
            for vm in self._cloud.preemptions:
                if vm.operation not in told and vm.zone in watch.zones and vm.at >= watch.since:
                    told.append(vm.operation)
                    await self._tell(vm.name)
            left = (end - clock.now).total_seconds()
            if left <= 0:
                return act.WatchedPreempted(looked_at=clock.now - timedelta(minutes=2), told=told)
            await self._next(left, watch.every)

    async def _next(self, left: float, every: float) -> None:
        """Wait for the first look after a preemption."""
        done = asyncio.get_running_loop().create_future()

        def look() -> None:
            if not done.done():
                done.set_result(None)

        self._cloud.clock.after(left, look)
        self._cloud.watchers.append(lambda: self._cloud.clock.after(every, look))
        await done

    async def _tell(self, name: str) -> None:
        vm = self._client.get_workflow_handle(names.vm_workflow_id(names.vm_key_of(name) or name))
        try:
            await vm.signal("preemption_notice", PreemptionNotice(node=name, source=PREEMPTED))
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
