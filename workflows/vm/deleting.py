"""The stage Deleting: drain the Node, delete the VM, confirm that it is gone, then delete the Node."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import NodeView

from workflows.common.calls import call, explain
from workflows.vm.machine import POLL_SECONDS, Part
from workflows.vm.state import Attempt


class Deleting(Part):
    """The stage Deleting."""

    async def delete(self) -> None:
        """Remove everything of this VM, each part until it is confirmed gone."""
        await self.machine.report()
        if not self.state.dead and self.state.node and self.state.node.exists and not self._is_announced():
            await self._drain(self.state.node)
        for one in self.state.tries:
            if not await self.machine.remove(one):
                return
        await self._report_to_market()
        self.state.dead = True
        await self.machine.revoke_token()
        for one in self.state.tries:
            await self._delete_node(one)
        await self.machine.reports.write_entry(gone=True)
        await self._report_to_market()  # once more if it failed before: else this VM would count as bought for ever
        self.machine.enter("Gone", reason=self.state.reason, message="nothing is left")

    def _is_announced(self) -> bool:
        """True if all pods there were given notice of the machine's end. Those that are left end with it."""
        return self.state.noticed_at is not None and self.machine.watches

    async def _report_to_market(self) -> None:
        if self.state.on_market:
            # After a notice the job may have released the machine before it went. That is a loss too.
            await self.machine.report_to_market("Ended", lost=self.state.lost or self.state.noticed_at is not None)

    async def _drain(self, node: NodeView) -> None:
        """Let the pods end by themselves until the deadline. What still runs then ends with the machine."""
        deadline = workflow.now() + timedelta(seconds=self.timings.drain)
        while workflow.now() < deadline:
            try:
                drained = await call(
                    act.CORDON_AND_DRAIN,
                    act.NodeRef(name=node.name, uid=node.uid),
                    summary=f"drain {node.name}",
                    watch=self.timings.drain if self.machine.watches else None,
                )
            except ActivityError as error:
                workflow.logger.warning("drain of %s: %s", node.name, explain(error)[1])
                return  # a machine that costs money must not stay because the cluster does not answer
            if not drained.remaining:
                return
            self.state.message = f"waiting for {', '.join(drained.remaining)} to stop"
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))

    async def _delete_node(self, one: Attempt) -> None:
        if one.node_gone:
            return
        uid = self.state.node.uid if self.state.node and self.state.node.name == one.name else None
        await call(act.DELETE_NODE, act.NodeRef(name=one.name, uid=uid), summary=f"delete Node {one.name}")
        one.node_gone = True
