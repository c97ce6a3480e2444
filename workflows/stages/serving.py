"""The machine is there, until it is released, announced to go, or lost."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call
from workflows.stages.machine import POLL_SECONDS, Machine, Part

LOOK_SECONDS = 30.0  # between two looks at the machine of a NotReady node
CORDON_SECONDS = 10.0
"""Between two cordons of a node: somebody may uncordon it each time, and a worker of an earlier release does not."""


class Serving(Part):
    """Ready and Noticed."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._next_cordon: datetime | None = None

    async def serve(self) -> None:
        """Wait; what is silent or NotReady is looked at before anything is concluded."""
        await self.machine.tell()
        if self._is_to_be_cordoned() and self.state.node:
            await self.machine.prepare_node(self.state.node)
            self._next_cordon = self.machine.soon(CORDON_SECONDS)
        rests = self._next_cordon
        self.state.not_ready_since = self.machine.not_ready_since()
        told, asked = self.state.not_ready_since, self.state.asked
        until = self.machine.soon(self.timings.owner_check)
        if told:
            # A machine that is gone may be reported RUNNING for a minute: look again and again.
            until = min(self.machine.soon(LOOK_SECONDS), told + timedelta(seconds=self.timings.not_ready_grace))
        elif (look := self.machine.next_look_at_agent()) is not None:
            until = min(until, look)
        if rests:
            until = min(until, rests)
        await self.machine.until(
            lambda: (
                self.state.noticed_at is not None
                or self.state.asked != asked
                or (self.machine.is_open_to_others and not rests)
                or (self.machine.not_ready_since() is None) != (told is None)
            ),
            until,
            "release, notice or loss",
        )
        if self.state.released or self.state.noticed_at or self.state.asked != asked:
            return
        if rests and workflow.now() >= rests:
            self._next_cordon = None
        if told is None and (rests or self.machine.is_open_to_others):
            return
        # Something was silent or NotReady: ask GCE before anything is concluded from it, then the API server.
        if self.machine.gone_or_stopped(await self.machine.look()):
            self.machine.lose("Lost", f"{self.machine.name} is gone without a notice")
            return
        node = act.NodeRef(name=self.machine.name)
        readiness = await call(act.OBSERVE_NODE, node, summary=f"look at node {node.name}")
        self.machine.see_node(readiness.view)
        self.machine.see_agent(readiness.agent)
        since = self.machine.not_ready_since()
        if since and workflow.now() >= since + timedelta(seconds=self.timings.not_ready_grace):
            self.machine.give_up("NodeNotReady", f"{self.machine.name} runs, but its node is NotReady for too long")

    def _is_to_be_cordoned(self) -> bool:
        return self.machine.is_open_to_others and self._next_cordon is None

    async def await_end(self) -> None:
        """After a notice: until the machine is gone, or late in going."""
        await self.machine.tell()
        view = await self.machine.look()
        if self.machine.gone_or_stopped(view):
            self.machine.lose("Preempted", f"{self.machine.name} was preempted")
        elif self.machine.late():
            self.machine.enter("Deleting", reason="Preempted", message="still there long after its notice")
        else:
            await self.machine.until(lambda: False, self.machine.soon(3 * POLL_SECONDS), "the preempted machine's end")
