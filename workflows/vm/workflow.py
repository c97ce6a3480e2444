"""The life of one VM: bought, joined, used, and confirmed gone, whatever becomes of its job.

It is a workflow of its own and no child of the job, so that it can tear its machine down even if the job continues as
new, is reset or terminated. The instance is confirmed gone before its Node is deleted: if the Node went first, the Job
controller would start a second pod while the first still trains.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors, names
    from api.market import VmRequest
    from api.messages import JOINING, CertificateAsked, NodeChanged, PreemptionNotice, VmRelease, VmStart
    from workflows.policy.backoff import back_off, ceiling_after

from workflows.common.busy_loop import BusyLoopGuard
from workflows.common.calls import call, explain
from workflows.common.cancellation import outlive_cancel
from workflows.common.continue_as_new import go_on, is_time_to_go_on
from workflows.common.handlers import drop_misfits
from workflows.common.patches import patched
from workflows.vm.certificates import Certificates
from workflows.vm.creating import Creating
from workflows.vm.deleting import Deleting
from workflows.vm.joining import Joining
from workflows.vm.machine import Machine
from workflows.vm.ready import Ready
from workflows.vm.state import Attempt, VmState

GOING = frozenset({"Noticed", "Lost", "Deleting"})
"""The stages in which the machine goes, for a reason that later failures do not change."""


@workflow.defn(name=names.VM_WORKFLOW)
class SpotVM:
    """The workflow of one VM: it creates the instance, joins it, watches it, and deletes it with its Node."""

    @workflow.init
    def __init__(self, start: VmStart) -> None:
        """Begin a life, or continue that of the run before."""
        self.start = start
        self.timings = start.timings
        self.state = VmState.model_validate(start.state) if start.state else _first_state(start)
        self.machine = Machine(start, self.state)
        self.creating = Creating(self.machine)
        self.joining = Joining(self.machine)
        self.ready = Ready(self.machine)
        self.deleting = Deleting(self.machine)
        self.certificates = Certificates(self.machine)

    @workflow.signal(description="The job wants this VM and asks for a report.")
    @drop_misfits
    def ensure(self, request: VmRequest | None = None) -> None:
        """Note that a report is due, and what to buy if nothing is bought yet. The run itself is what was ensured."""
        self.state.asked += 1
        self.state.request = request or self.state.request

    @workflow.signal(description="Release this VM: drain it, delete it, confirm that it is gone.")
    @drop_misfits
    def release(self, message: VmRelease) -> None:
        """Record the first release. A second changes nothing."""
        self.state.released = self.state.released or message.reason

    @workflow.signal(description="The machine is about to be preempted.")
    @drop_misfits
    def preemption_notice(self, message: PreemptionNotice) -> None:
        """Record the first notice. A second changes nothing, nor does one of an earlier attempt's instance."""
        if message.node not in (None, self.machine.name):
            return
        self.machine.notice(message.source, seconds_left=message.seconds, began=message.at)

    @workflow.signal(description="The Node of this VM changed.")
    @drop_misfits
    def node_changed(self, message: NodeChanged) -> None:
        """Take in a new version of this VM's Node. Older versions and other nodes are ignored."""
        if message.view.name != self.machine.name or message.version <= self.state.node_version:
            return
        self.state.node_version = message.version
        self.machine.see_node(message.view)

    @workflow.signal(description="The kubelet of this VM's Node asks for a serving certificate.")
    @drop_misfits
    def certificate_asked(self, message: CertificateAsked) -> None:
        """Count a request of this VM's Node. Other nodes are ignored."""
        if message.node == self.machine.name:
            self.state.certificates_asked += 1

    @workflow.query(description="Where this VM is in its life.")
    def status(self) -> VmState:
        """Return the whole state."""
        return self.state

    @workflow.run
    async def run(self, start: VmStart) -> str:
        """Live until nothing is left of the machine, and return the reason of its end. A cancel is a release."""
        self._beside = asyncio.create_task(self.certificates.answer(), name="certificates")
        return await outlive_cancel(self._life(), self._cancelled)

    def _cancelled(self) -> None:
        self.state.released = self.state.released or "Cancelled"

    async def _life(self) -> str:
        guard = BusyLoopGuard(self.state)
        self.machine.start_clock()
        while not self._is_over():
            self.machine.show()
            try:
                guard.begin()
                await self._step()
                self.state.failures = 0
                await self._pause_if_busy(guard)
            except ActivityError as error:
                await self._failed(error)
            await self.machine.report()
            if is_time_to_go_on() and not self._is_over():
                await workflow.wait_condition(workflow.all_handlers_finished)
                self.machine.stop_clock()
                go_on(self.start, self.state)
        await workflow.wait_condition(workflow.all_handlers_finished)
        self.machine.stop_clock()
        return self.state.released or self.state.reason

    async def _pause_if_busy(self, guard: BusyLoopGuard) -> None:
        pause = guard.pause()
        if pause is not None and patched("standstill"):
            workflow.logger.warning("%s runs in a busy loop in %s", self.start.key, self.state.stage)
            summary = f"a busy loop in {self.state.stage}"
            await self.machine.until(lambda: False, workflow.now() + pause, summary)

    def _is_over(self) -> bool:
        return self.state.stage == "Gone"

    async def _step(self) -> None:
        """Carry out one step of the present stage. Each stage can be entered again, with the state."""
        await self._check_owner()
        if self.state.released and self.state.stage != "Deleting":
            self.machine.enter("Deleting", reason=self.state.released)
        if self.state.noticed_at and self.state.stage in {*JOINING, "Ready"}:
            patience = self.machine.notice_left() + self.timings.preempted_gone
            self.machine.enter("Noticed", seconds=patience, reason=self.state.reason)
        match self.state.stage:
            case "Creating":
                await self.creating.create()
            case "Booting":
                await self.joining.boot()
            case "Joining":
                await self.joining.join()
            case "Registering":
                await self.joining.register()
            case "Ready":
                await self.ready.serve()
            case "Noticed":
                await self.ready.await_end()
            case "Lost":  # of runs that began on earlier releases
                self.machine.enter("Deleting", reason=self.state.reason, message=self.state.message)
            case "Deleting":
                await self.deleting.delete()

    async def _check_owner(self) -> None:
        """Check from time to time whether the job still lives, so that its machine does not stay behind.

        A job that lives receives a report each time. It releases a VM that it does not know, as after a reset. A VM
        that goes anyway does not ask.
        """
        now, last = workflow.now(), self.state.owner_checked_at
        if self.state.released or self.state.noticed_at or self.state.stage in GOING:
            return
        if last and now - last < timedelta(seconds=self.timings.owner_check):
            return
        if self.state.stage == "Ready" and self.machine.watches:
            return  # the look at the machine includes its job
        self.state.owner_checked_at = now
        request, owner = act.CheckOwner(job=self.machine.job_ref), None
        try:
            owner = await call(act.CHECK_OWNER, request, summary="does the job still live?")
        except ActivityError as error:  # the next check asks again; the machine's own work does not wait for it
            workflow.logger.warning("the job of %s: %s", self.start.key, explain(error)[1])
        self.machine.see_owner(owner)

    async def _failed(self, error: ActivityError) -> None:
        """Report why a step failed, and wait before it is retried."""
        self.state.failures += 1
        reason, self.state.message = explain(error)
        if self.state.noticed_at is None and self.state.stage not in GOING:
            self.state.reason = reason  # the reason of a machine that goes says why it goes, and stays
        workflow.logger.warning("%s: %s", self.state.stage, self.state.message)
        hopeless = reason == errors.HOST_KEY  # a retry cannot mend that
        if self.state.stage in JOINING and (hopeless or self.machine.late()):
            self.machine.give_up(reason, self.state.message)
            return
        await self.machine.report()
        wait = back_off(self.state.failures, self.timings.retry, ceiling=ceiling_after(reason))
        again, noticed = workflow.now() + wait, self.state.noticed_at
        await self.machine.until(lambda: self.state.noticed_at != noticed, again, f"the retry after {reason}")


def _first_state(start: VmStart) -> VmState:
    if not start.teardown:
        now = workflow.now()  # the job itself has just asked, so it lives
        return VmState(owner_checked_at=now, wanted_at=now, request=start.request)
    found = [name.partition("/") for name in start.found]
    tries = [Attempt(zone=zone, name=name) for zone, _, name in found]
    # The workflow that owned it may have reported it to the market, and nobody else reports that it has ended.
    return VmState(stage="Deleting", released="Sweep", reason="Sweep", tries=tries, on_market=True)
