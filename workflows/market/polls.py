"""How runs that releases up to 0.2.0 began look for preempted machines: by a timer and an activity every few seconds.

Such a run ends once its history is long or newer code is current. The next one watches instead.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors, names
    from api.market import PREEMPTED
    from api.messages import PreemptionNotice
    from workflows.market import memory
    from workflows.policy.bounds import bounded

from workflows.common.calls import call, explain
from workflows.common.continue_as_new import is_time_to_go_on
from workflows.market.desk import Desk
from workflows.market.prices import Prices


class Polls:
    """Polls while there are machines."""

    def __init__(self, desk: Desk, prices: Prices, idle: timedelta) -> None:
        self._desk = desk
        self._prices = prices
        self._idle = idle

    async def run(self) -> None:
        """Read prices and look for preempted machines until it is time to go on."""
        began = workflow.now()
        while not is_time_to_go_on() and workflow.now() - began < self._idle:
            await self._prices.read()
            await self._look()
            await self._rest()

    async def _rest(self) -> None:
        """Wait for the next poll, or for something to do."""
        polls = self._desk.timings.preempted_poll
        bought = self._desk.state.bought
        busy = bool(bought) and polls > 0
        try:
            await workflow.wait_condition(
                lambda: (
                    bool(self._prices.wanted)
                    or (not busy and bool(bought) and polls > 0)
                    or is_time_to_go_on()  # during a stockout updates fill the history
                ),
                timeout=timedelta(seconds=bounded(polls)) if busy else self._idle,
                timeout_summary="the next poll for preempted operations" if busy else "something to do",
            )
        except TimeoutError:
            return

    async def _look(self) -> None:
        """Look once at each zone with machines of ours, and notify the VMs that were preempted."""
        if not self._desk.state.bought or self._desk.timings.preempted_poll <= 0:
            return
        began = workflow.now()
        found = await self._find()
        for key in memory.newly_preempted(self._desk.state, found.vms, began) if found else []:
            await self._notify(key)

    async def _find(self) -> act.Preempted | None:
        """Ask with the credentials of one machine after another: some may be revoked, or gone with their namespace."""
        bought = list(self._desk.state.bought.values())
        zones = sorted({vm.candidate.zone for vm in bought})
        since = self._desk.state.looked_at or min(vm.since for vm in bought)
        for namespace, credentials in dict.fromkeys((vm.namespace, vm.credentials) for vm in bought):
            request = act.FindPreempted(
                project=self._desk.project, zones=zones, since=since, namespace=namespace, credentials=credentials
            )
            try:
                return await call(act.FIND_PREEMPTED, request, summary=f"preempted in {', '.join(zones)}?")
            except ActivityError as error:
                reason, message = explain(error)
                workflow.logger.warning("preempted operations: %s", message)
                if reason == errors.TRANSIENT:  # the cloud does not answer, whoever asks
                    return None
        return None

    async def _notify(self, key: str) -> None:
        handle = workflow.get_external_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("preemption_notice", PreemptionNotice(source=PREEMPTED))
        except FailureError:
            self._desk.state.bought.pop(key, None)  # its workflow has ended
