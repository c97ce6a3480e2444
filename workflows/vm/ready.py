"""The stages Ready and Noticed: the machine serves its replica until it is released or lost."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import reasons
    from api.views import VmView

from workflows.common.calls import call
from workflows.vm.machine import POLL_SECONDS, Machine, Part

NOT_READY_POLL = 30.0
"""Seconds between two polls of the machine under a NotReady node."""

CORDON_SECONDS = 10.0
"""Seconds between two cordons of a node that somebody uncordons again and again."""


class Ready(Part):
    """The stages Ready and Noticed."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._next_cordon: datetime | None = None

    async def serve(self) -> None:
        """Wait for a release, a notice or a loss. The cloud is asked before anything is concluded from silence."""
        await self.machine.report()
        if self._is_to_be_cordoned() and self.state.node:
            await self.machine.prepare_node(self.state.node)
            self._next_cordon = self.machine.soon(CORDON_SECONDS)
        next_cordon = self._next_cordon
        self.state.not_ready_since = self.machine.not_ready_since()
        not_ready, asked = self.state.not_ready_since, self.state.asked
        until = self._look_at() if self.machine.watches else self.machine.soon(self.timings.owner_check)
        if not_ready:
            # The cloud may report a machine that is gone as RUNNING for a minute, so it is polled.
            until = min(self.machine.soon(NOT_READY_POLL), not_ready + timedelta(seconds=self.timings.not_ready_grace))
        elif (poll := self.machine.next_agent_poll()) is not None:
            until = min(until, poll)
        if next_cordon:
            until = min(until, next_cordon)
        if self.state.entry_again_at:
            until = min(until, self.state.entry_again_at)
        await self.machine.until(
            lambda: (
                self.state.noticed_at is not None
                or self.state.asked != asked
                or (self.machine.is_open_to_others and not next_cordon)
                or (self.machine.not_ready_since() is None) != (not_ready is None)
            ),
            until,
            "a release, a notice or a loss",
        )
        if self.state.released or self.state.noticed_at or self.state.asked != asked:
            return
        if self.machine.reports.is_entry_due:
            return
        if next_cordon and workflow.now() >= next_cordon:
            self._next_cordon = None
        if not_ready is None and (next_cordon or self.machine.is_open_to_others):
            return
        # Something was silent or NotReady: ask GCE and then the API server before anything is concluded from it.
        version = self.state.node_version
        readiness = await self._look()
        if readiness is None:
            self.machine.lose("Lost", f"{self.machine.name} went without a notice")
            return
        if self.state.node_version == version or not self.machine.watches:  # else the bridge has told something newer
            self.machine.see_node(readiness.view)
        self.machine.see_agent(readiness.agent)
        since = self.machine.not_ready_since()
        if since and workflow.now() >= since + timedelta(seconds=self.timings.not_ready_grace):
            self.machine.give_up(
                reasons.NODE_NOT_READY, f"{self.machine.name} runs, but its node was NotReady for too long"
            )

    async def _look(self) -> act.NodeReadiness | None:
        """Look at the machine and its Node, and at the job if that is due. None if the machine no longer runs."""
        node = act.NodeRef(name=self.machine.name)
        if self.machine.watches:
            return await self._look_at_all(node)
        if self.machine.gone_or_stopped(await self.machine.observe()):
            return None
        return await call(act.OBSERVE_NODE, node, summary=f"is node {node.name} Ready?")

    async def _look_at_all(self, node: act.NodeRef) -> act.NodeReadiness | None:
        request = act.LookAtVm(vm=self.machine.vm_ref(), node=node, job=self.machine.job_ref)
        seen = await call(act.LOOK_AT_VM, request, summary=f"look at {self.machine.name}, its Node and its job")
        self.state.view = seen.vm if seen.vm.exists else self.state.view
        if self.machine.gone_or_stopped(seen.vm):
            return None
        if workflow.now() >= self._look_at():
            self.machine.see_owner(seen.owner)
        return seen.node

    def _look_at(self) -> datetime:
        """Return when to look at everything again."""
        last = self.state.owner_checked_at
        return last + timedelta(seconds=self.timings.owner_check) if last else workflow.now()

    def _is_to_be_cordoned(self) -> bool:
        return self.machine.is_open_to_others and self._next_cordon is None

    async def await_end(self) -> None:
        """Wait after a notice until the machine is gone, or is late in going."""
        await self.machine.report()
        view = await self._watch_end() if self.machine.watches else await self.machine.observe()
        if view is None:
            return
        if self.machine.gone_or_stopped(view):
            self.machine.lose("Preempted", f"{self.machine.name} was preempted")
        elif self.machine.late():
            self.machine.enter("Deleting", reason="Preempted", message="still runs long after its notice")
        else:
            await self.machine.until(lambda: False, self.machine.soon(3 * POLL_SECONDS), "the preempted machine's end")

    async def _watch_end(self) -> VmView | None:
        """Watch the machine until it no longer runs; None if it was released first."""
        view = await self.machine.watch(
            act.OBSERVE_VM,
            self.machine.vm_ref(),
            lambda: False,
            seconds=self.machine.left(),
            summary=f"wait for the end of {self.machine.name}",
        )
        self.state.view = view if view is not None and view.exists else self.state.view
        return view
