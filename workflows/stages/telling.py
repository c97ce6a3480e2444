"""What a VM tells: its job by signal, people by its entry in the SpotInstanceVM's status."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.messages import VmReport, VmStart
    from api.spot_instance_vm import ProvisionedInstance
    from api.views import AgentView

from workflows.calls import call, explain
from workflows.vm_state import VmState


class Telling:
    """Tells of one VM; only what has changed."""

    def __init__(self, start: VmStart, state: VmState) -> None:
        self.start = start
        self.state = state

    async def tell(self, missing_agent: AgentView | None = None) -> None:
        """Report to the job what has changed, and answer its ensure."""
        state = self.state
        now_told = (state.stage, state.reason, state.message, state.dead)
        if (now_told, missing_agent) == (state.told, state.told_agent) and state.answered == state.asked:
            return
        entry_changed = state.told is None or state.told[0] != state.stage or state.told[3] != state.dead
        state.number += 1
        state.told, state.told_agent, state.answered = now_told, missing_agent, state.asked
        owner = workflow.get_external_workflow_handle(names.job_workflow_id(self.start.namespace, self.start.job_name))
        try:
            await owner.signal("vm_changed", self._report())
        except FailureError:
            state.owner_checked_at = None  # closed: see soon whether for good
        if entry_changed and state.stage != "Gone":
            await self.write_entry(gone=False)

    def _report(self) -> VmReport:
        state, current = self.state, self.state.tries[-1] if self.state.tries else None
        return VmReport(
            key=self.start.key,
            number=state.number,
            stage=state.stage,
            reason=state.reason,
            message=state.message,
            vm_name=current.name if current else None,
            zone=current.zone if current else None,
            node_name=state.node.name if state.node else None,
            dead=state.dead,
            fingerprint=state.fingerprint,
            candidate=current.candidate if current else None,
            price=current.price if current else None,
            why=current.why if current else "",
            at=workflow.now(),
            notice_seconds=self.start.spec.gcp.notice_seconds,
            ends_at=state.ends_at,
            agent=state.told_agent,
        )

    async def write_entry(self, *, gone: bool) -> None:
        """Its entry in the SpotInstanceVM's status. For people: never in the way of the life itself.

        Raises:
            ActivityError: it could not be taken away yet, which nobody else would do later.
        """
        state, view = self.state, self.state.view
        if not state.tries:
            return
        current = state.tries[-1]
        entry = ProvisionedInstance(
            name=current.name,
            instance_id=view.instance_id if view else None,
            internal_ip=view.internal_ip if view else None,
            external_ip=view.external_ip if view else None,
            zone=current.zone,
            state=state.stage,
            joined_cluster=state.node is not None and state.node.exists,
            node_name=state.node.name if state.node else None,
            creation_time=view.creation_time if view else None,
        )
        request = act.WriteVmEntry(
            namespace=self.start.namespace,
            vm_name=self.start.vm_name,
            name=self.start.key,
            entry=None if gone else entry,
        )
        try:
            await call(act.WRITE_VM_ENTRY, request, summary=f"status of {current.name}: {state.stage}")
        except ActivityError as error:
            reason, message = explain(error)
            workflow.logger.warning("status of %s: %s", current.name, message)
            if gone and reason == "Transient":
                raise
