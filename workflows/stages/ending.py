"""Drain, delete the VM, confirm that it is gone, delete its Node: in this order."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import NodeView

from workflows.calls import call, explain
from workflows.stages.machine import POLL_SECONDS, Part
from workflows.vm_state import Try


class Ending(Part):
    """Deleting."""

    async def delete(self) -> None:
        """Everything of this VM goes; each part is asked for until it is confirmed gone."""
        await self.machine.tell()
        if not self.state.dead and self.state.node and self.state.node.exists:
            await self._drain(self.state.node)
        for one in self.state.tries:
            if not await self.machine.remove(one):
                return
        await self._tell_market()
        self.state.dead = True
        await self.machine.revoke_token()
        for one in self.state.tries:
            await self._delete_node(one)
        await self.machine.telling.write_entry(gone=True)
        await self._tell_market()  # where it could not be told before: else it would count as bought for ever
        self.machine.enter("Gone", reason=self.state.reason, message="nothing is left")

    async def _tell_market(self) -> None:
        if self.state.on_market:
            # Of one that was announced to go its job may have let go before it went.
            await self.machine.tell_market("Ended", lost=self.state.lost or self.state.noticed_at is not None)

    async def _drain(self, node: NodeView) -> None:
        """Let the pods end by themselves, within the deadline; what still runs then ends with the machine."""
        deadline = workflow.now() + timedelta(seconds=self.timings.drain)
        while workflow.now() < deadline:
            try:
                drained = await call(
                    act.CORDON_AND_DRAIN, act.NodeRef(name=node.name, uid=node.uid), summary=f"drain {node.name}"
                )
            except ActivityError as error:
                workflow.logger.warning("drain of %s: %s", node.name, explain(error)[1])
                return  # a cluster that does not answer must not keep a machine that costs money
            if not drained.remaining:
                return
            self.state.message = f"waits for {', '.join(drained.remaining)} to stop"
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))

    async def _delete_node(self, one: Try) -> None:
        if one.node_gone:
            return
        uid = self.state.node.uid if self.state.node and self.state.node.name == one.name else None
        await call(act.DELETE_NODE, act.NodeRef(name=one.name, uid=uid), summary=f"delete Node {one.name}")
        one.node_gone = True
