"""The reports of a VM: to its job by a signal, to people by its entry in the SpotInstanceVM's status."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors, names
    from api.messages import JOINING, VmReport, VmStart
    from api.spot_instance_vm import ProvisionedInstance
    from api.views import AgentView

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.vm.state import VmState

ENTRY_RETRY = timedelta(minutes=1)
"""The time between two attempts to write the entry while the API server does not accept it."""

CLOSED = timedelta(minutes=10)
"""The time between two checks of a job whose workflow is closed, or of which nobody could say whether it lives."""

News = tuple[str, str, str, bool]
"""What a report says: the stage, the reason, the message, and whether the machine is gone."""

AS_IT_SHOULD = ("Booting", "", "")
"""What is said of a machine that boots and joins as it should."""


class Reports:
    """Reports the changes of one VM."""

    def __init__(self, start: VmStart, state: VmState) -> None:
        self.start = start
        self.state = state

    async def send(self, missing_agent: AgentView | None = None) -> None:
        """Report to the job what has changed, and answer its ensure."""
        state = self.state
        now_told = self._news()
        if self._follows_at_once(now_told):
            return
        entry_changed = self._is_new_entry(now_told)
        if (now_told, missing_agent) != (state.told, state.told_agent) or state.answered != state.asked:
            state.told, state.told_agent, state.answered = now_told, missing_agent, state.asked
            await self._tell_job()
        if (entry_changed or self.is_entry_due) and state.stage != "Gone":
            await self.write_entry(gone=False)

    @property
    def is_entry_due(self) -> bool:
        """True if the last write of the entry failed and is to be repeated. Other stages end soon, with a new write."""
        again_at = self.state.entry_again_at
        return again_at is not None and workflow.now() >= again_at and self.state.stage == "Ready"

    async def _tell_job(self) -> None:
        self.state.number += 1
        owner = workflow.get_external_workflow_handle(names.job_workflow_id(self.start.namespace, self.start.job_name))
        try:
            await owner.signal("vm_changed", self._report())
        except FailureError:
            self._check_owner_soon()  # the job's workflow is closed

    def _check_owner_soon(self) -> None:
        """Have it checked whether the job is gone for good: at once, or after a while if that was tried a moment ago.

        A job whose workflow was terminated keeps its object, and so counts as alive.
        """
        state, now, last = self.state, workflow.now(), self.state.owner_checked_at
        tried = state.closed_at is not None and now - state.closed_at < CLOSED
        if tried and last is not None and patched("watched-steps"):
            state.owner_checked_at = min(last, last + CLOSED - timedelta(seconds=self.start.timings.owner_check))
            return
        state.closed_at, state.owner_checked_at = now, None

    def _news(self) -> News:
        """Return what a report would say. That a join goes on as it should is no news: it is that of the boot."""
        state = self.state
        quiet = state.stage in JOINING and not state.reason and not state.slow and patched("watched-steps")
        if quiet:
            return (*AS_IT_SHOULD, state.dead)
        return (state.stage, state.reason, state.message, state.dead)

    def _follows_at_once(self, news: News) -> bool:
        """True if the next step of a machine that goes has more to say, or if the job knows of its end already."""
        state = self.state
        if state.told is None or not patched("watched-steps"):
            return False
        if state.noticed_at is not None and state.stage in {*JOINING, "Ready"}:
            return True
        if state.message or state.answered != state.asked:
            return False  # what delays the deletion is news
        return state.noticed_at is not None and state.stage == "Deleting" and news[3] == state.told[3]

    def _is_new_entry(self, news: News) -> bool:
        """True if the entry for people has changed: the machine is bought, serves, goes, or no longer runs.

        An attempt to buy a machine is shown once it has one.
        """
        told, shown = self.state.told, self.state.shown
        if not patched("watched-steps"):
            return told is None or told[0] != news[0] or told[3] != news[3]
        if shown is None or told is None or told[3] != news[3]:
            return True
        return self.state.stage != "Creating" and self._shown(news) != shown

    def _shown(self, news: News) -> tuple[str, str]:
        """Return what an entry is about: a machine that is bought until it serves, unless that is troublesome."""
        stage, name = news[0], self.state.tries[-1].name if self.state.tries else ""
        if stage == "Noticed":
            return "Ready", name  # it is soon gone, with its entry
        return ("Creating", name) if news[:3] == AS_IT_SHOULD else (stage, name)

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
        """Write or remove the VM's entry in the SpotInstanceVM's status. A failed write is repeated later.

        Nobody else writes the entry, so what is not made good here would stay wrong for the VM's whole life.

        Raises:
            ActivityError: The entry cannot be removed yet. Nobody else would remove it later.
        """
        state, view = self.state, self.state.view
        if not state.tries:
            return
        state.shown = self._shown(self._news())
        current = state.tries[-1]
        entry = ProvisionedInstance(
            name=current.name,
            instance_id=view.instance_id if view else None,
            internal_ip=view.internal_ip if view else None,
            external_ip=view.external_ip if view else None,
            zone=current.zone,
            provisioning=current.candidate.provisioning if current.candidate else None,
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
            if gone and reason == errors.TRANSIENT:
                raise
            state.entry_again_at = workflow.now() + ENTRY_RETRY if patched("entry-again") else None
        else:
            state.entry_again_at = None
