"""One VM's life: bought, joined, used, and confirmed gone, whatever becomes of the job that wanted it.

An entity of its own, not a child of the job: continue-as-new, a reset or the termination of the job leaves it alive
to tear its machine down. At the end the instance is confirmed gone before its Node is deleted, because a Node
deleted first lets the Job controller start a second pod while the first still trains.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors, names
    from api.market import VmWish
    from api.messages import CertificateAsked, NodeChanged, PreemptionNotice, VmRelease, VmStart
    from workflows.policy.backoff import back_off

from workflows.calls import call, explain
from workflows.cancelling import outlive_cancel
from workflows.history import go_on, is_time_to_go_on
from workflows.stages.buying import Buying
from workflows.stages.certificates import Certificates
from workflows.stages.ending import Ending
from workflows.stages.joining import Joining
from workflows.stages.machine import Machine
from workflows.stages.serving import Serving
from workflows.standstill import Standstill
from workflows.vm_state import Try, VmState

JOINING = frozenset({"Booting", "Joining", "Registering"})  # on the way from an instance to a Node
GOING = frozenset({"Noticed", "Lost", "Deleting"})  # for a reason that stands


@workflow.defn(name=names.VM_WORKFLOW)
class SpotVM:
    """Create → boot → join → Ready → release, notice or loss → drain → delete → confirmed gone → Node deleted."""

    @workflow.init
    def __init__(self, start: VmStart) -> None:
        """Begin a life, or go on with one after continue-as-new."""
        self.start = start
        self.timings = start.timings
        self.state = VmState.model_validate(start.state) if start.state else _first_state(start)
        self.machine = Machine(start, self.state)
        self.buying = Buying(self.machine)
        self.joining = Joining(self.machine)
        self.serving = Serving(self.machine)
        self.ending = Ending(self.machine)
        self.certificates = Certificates(self.machine)

    @workflow.signal(description="The job wants this VM and asks how it is; answered by a report.")
    def ensure(self, wish: VmWish | None = None) -> None:
        """That this run exists is what was ensured; what is wished for counts until it is bought."""
        self.state.asked += 1
        self.state.wish = wish or self.state.wish

    @workflow.signal(description="Let go of this VM: drain, delete, confirm that it is gone.")
    def release(self, message: VmRelease) -> None:
        """The second release changes nothing."""
        self.state.released = self.state.released or message.reason

    @workflow.signal(description="The machine is about to be preempted.")
    def preemption_notice(self, message: PreemptionNotice) -> None:
        """The second notice changes nothing."""
        self.machine.notice(message.source, told=message.seconds, began=message.at)

    @workflow.signal(description="The Node of this VM changed.")
    def node_changed(self, message: NodeChanged) -> None:
        """Older versions and other nodes are dropped."""
        if message.view.name != self.machine.name or message.version <= self.state.node_version:
            return
        self.state.node_version = message.version
        self.machine.see_node(message.view)

    @workflow.signal(description="The kubelet of this VM's Node asks for a serving certificate.")
    def certificate_asked(self, message: CertificateAsked) -> None:
        """Other nodes are dropped."""
        if message.node == self.machine.name:
            self.state.certificates_asked += 1

    @workflow.query(description="Where this VM is in its life.")
    def status(self) -> VmState:
        """The whole state."""
        return self.state

    @workflow.run
    async def run(self, start: VmStart) -> str:
        """Live until nothing is left of the machine; gives the reason of the end. A cancel is a release."""
        self._beside = asyncio.create_task(self.certificates.answer(), name="certificates")
        return await outlive_cancel(self._life(), self._cancelled)

    def _cancelled(self) -> None:
        self.state.released = self.state.released or "Cancelled"

    async def _life(self) -> str:
        standstill = Standstill(self.state)
        while not self._is_over():
            workflow.set_current_details(self._details())
            try:
                standstill.begin()
                await self._step()
                self.state.failures = 0
                await self._pause_at(standstill)
            except ActivityError as error:
                await self._failed(error)
            await self.machine.tell()
            if is_time_to_go_on() and not self._is_over():
                await workflow.wait_condition(workflow.all_handlers_finished)
                go_on(self.start, self.state)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state.released or self.state.reason

    def _details(self) -> str:
        """Write Markdown for the Web UI's card: a run by continue-as-new has no static summary of its own."""
        start, state = self.start, self.state
        about = f"**{start.namespace}/{start.job_name}** · replica {start.replica} · {self.machine.candidate.key}"
        return f"{about}\n\n{state.stage} {state.reason} {state.message}".rstrip()

    async def _pause_at(self, standstill: Standstill) -> None:
        pause = standstill.pause()
        if pause is not None and workflow.patched("standstill"):
            workflow.logger.warning("%s stands still in %s", self.start.key, self.state.stage)
            await self.machine.until(lambda: False, workflow.now() + pause, f"nothing changes in {self.state.stage}")

    def _is_over(self) -> bool:
        return self.state.stage == "Gone"

    async def _step(self) -> None:
        """One stage's work; every stage can be entered again over the state."""
        await self._look_for_owner()
        if self.state.released and self.state.stage != "Deleting":
            self.machine.enter("Deleting", reason=self.state.released)
        if self.state.noticed_at and self.state.stage in {*JOINING, "Ready"}:
            patience = self.machine.notice_left() + self.timings.preempted_gone
            self.machine.enter("Noticed", seconds=patience, reason=self.state.reason)
        match self.state.stage:
            case "Creating":
                await self.buying.create()
            case "Booting":
                await self.joining.boot()
            case "Joining":
                await self.joining.join()
            case "Registering":
                await self.joining.register()
            case "Ready":
                await self.serving.serve()
            case "Noticed":
                await self.serving.await_end()
            case "Lost":
                self.machine.enter("Deleting", reason=self.state.reason, message=self.state.message)
            case "Deleting":
                await self.ending.delete()

    async def _look_for_owner(self) -> None:
        """At intervals: whatever became of the job, its machine must not stay behind.

        A job that lives is told of it each time, and lets go of one that it does not know, as after its reset. What
        goes anyway waits for no answer.
        """
        now, last = workflow.now(), self.state.owner_checked_at
        if self.state.released or self.state.noticed_at or self.state.stage in GOING:
            return
        if last and now - last < timedelta(seconds=self.timings.owner_check):
            return
        start = self.start
        job = act.JobRef(namespace=start.namespace, name=start.job_name, uid=start.job_uid, job_id=start.job_id)
        self.state.owner_checked_at = now
        try:
            owner = await call(act.CHECK_OWNER, act.CheckOwner(job=job), summary="does the job still live?")
        except ActivityError as error:  # asked again at the next interval: the machine's own affairs do not wait for it
            workflow.logger.warning("the job of %s: %s", start.key, explain(error)[1])
            return
        if not owner.alive:
            self.state.released = f"OwnerGone: {owner.reason}"
        self.state.asked += 1

    async def _failed(self, error: ActivityError) -> None:
        """A step failed: say why, wait, and take the step again."""
        self.state.failures += 1
        reason, self.state.message = explain(error)
        if self.state.noticed_at is None and self.state.stage not in GOING:
            self.state.reason = reason  # of one that goes it says why it goes
        workflow.logger.warning("%s: %s", self.state.stage, self.state.message)
        hopeless = reason == errors.HOST_KEY  # no patience mends that
        if self.state.stage in JOINING and (hopeless or self.machine.late()):
            self.machine.give_up(reason, self.state.message)
            return
        await self.machine.tell()
        again, noticed = workflow.now() + back_off(self.state.failures, self.timings.retry), self.state.noticed_at
        await self.machine.until(lambda: self.state.noticed_at != noticed, again, f"after {reason}")


def _first_state(start: VmStart) -> VmState:
    if not start.teardown:
        now = workflow.now()  # the job itself has just asked
        return VmState(owner_checked_at=now, wanted_at=now, wish=start.wish)
    found = [name.partition("/") for name in start.found]
    tries = [Try(zone=zone, name=name) for zone, _, name in found]
    # The life before may have told the market of it, and nobody else tells that it has ended.
    return VmState(stage="Deleting", released="Sweep", reason="Sweep", tries=tries, on_market=True)
