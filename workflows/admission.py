"""Before money is spent: read the job's documents, check what it needs, and go on doing so while it is edited."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.common import Condition
    from api.identity import borrowed
    from api.spot_instance_job import SpotInstanceJobSpec
    from api.spot_instance_vm import SpotInstanceVMSpec
    from workflows.policy.backoff import SOON, back_off
    from workflows.policy.edits import Edit, judge
    from workflows.policy.grace import with_grace
    from workflows.policy.outputs import lost_outputs, outputs_warning

from workflows.calls import call, explain
from workflows.checkpointing import Checkpointing
from workflows.checks import Checks
from workflows.job import Job


class Admission:
    """What is wrong is told in a condition, and heals by itself when the missing thing appears."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing
        self.checks = Checks(job)
        self.failures = 0

    async def run(self) -> None:
        """Until the job ends: admit it, then keep its spec what the cluster says."""
        if self.state.admitted:
            self.checkpointing.resume()
        while not self.job.parking and not self._done():
            await self._wishes()
            try:
                await self._read()
            except ActivityError as error:
                reason, message = explain(error)
                self.job.condition("Accepted", None if self.state.spec else False, reason, message)
                self.failures += 1
            self.checks.repeat()
            await self._wait()

    def _done(self) -> bool:
        return self.job.ending and (self.state.spec is not None or self.state.unreadable)

    async def _wishes(self) -> None:
        """What a person told by signal becomes the spec's, so that kubectl and Temporal agree.

        One that cannot be written now is tried again, and keeps no edit from being read meanwhile.
        """
        while self.state.wishes:
            try:
                await call(act.PATCH_SPEC, self.state.wishes[0], summary="a person's wish goes into the spec")
            except ActivityError as error:
                reason, message = explain(error)
                if reason == "Transient":
                    workflow.logger.warning("a person's wish is not written yet: %s", message)
                    return
                self.job.event("WishRefused", message, warning=True)
            self.state.wishes.pop(0)

    async def _read(self) -> None:
        self.state.reread = False
        document = await call(act.LOAD_JOB, self.job.ref, summary="read the SpotInstanceJob and what it names")
        if document.exists:
            await self._take(document)
        else:
            self.state.shutdown = self.state.shutdown or "Gone"  # what was read before is what the teardown works with
        if self.job.ending and self.state.spec is None:
            self.state.unreadable = True
        self.job.touch()

    async def _take(self, document: act.JobDocument) -> None:
        if document.deleting:
            self.state.shutdown = self.state.shutdown or "Deleted"
        self.state.generation = max(self.state.generation, document.generation)
        self.state.timings = with_grace(document.timings, document.spec or self.state.spec)
        if document.deleting and self.state.admitted:
            return  # nobody checked this spec: the teardown works with what the job was admitted with
        if problems := self._problems(document):
            self.failures += 1
            for problem in problems[:1]:
                self.job.condition("Accepted", False, problem.reason, problem.message)
            if self.job.ending or self.state.admitted:
                # A teardown works with what it can get; a running job goes on with what it had.
                self.state.spec = self.state.spec or document.spec
                self.state.vm_spec = self.state.vm_spec or document.vm_spec
            return
        self.failures = 0
        self._accept(document)
        if not self.state.admitted and not self.job.ending:
            self.state.hold = document.hold
            await self._admit()

    def _problems(self, document: act.JobDocument) -> list[Condition]:
        """List what is wrong with the document.

        An admitted job keeps what it borrowed of the worker's identity. That one more pod of it would be refused says
        nothing of those that run, which may be what fills the quota: it is asked again before a VM is bought.
        """
        kept = borrowed(self.state.spec, self.state.vm_spec) if self.state.admitted and self.state.spec else []
        problems = [each for each in document.problems if not (self.state.admitted and each.reason == act.POD_REFUSED)]
        return problems + [each.problem for each in document.not_lent if each.wanted not in kept]

    def _accept(self, document: act.JobDocument) -> None:
        spec, vm_spec = document.spec, document.vm_spec or self.state.vm_spec  # of a job being deleted it may be gone
        assert spec is not None
        if vm_spec is None:
            self.state.spec = spec
            self.job.condition("Accepted", True, "SpecIsValid", "; ".join(document.remarks))
            return
        edit = judge(self.state, spec, vm_spec)
        if edit.concerns_fixed and not workflow.patched("fixed-fields"):
            edit = Edit(spec, vm_spec)
        old, old_vm, self.state.spec = self.state.spec, self.state.vm_spec, edit.spec
        self._take_vm(edit.vm_spec)
        self._tell(edit, [*document.remarks, *lost_outputs(spec)])
        if old is not None and (_checked(old), old_vm) != (_checked(edit.spec), edit.vm_spec):
            self.state.checked_at = None
        if not self.state.admitted or old is None:
            return
        self.state.admitted = not edit.anew
        before, now = old.checkpoint_config, self.job.spec.checkpoint_config
        if before.checkpoint_interval != now.checkpoint_interval:
            self.checkpointing.pacing.end_pause()
            self.checkpointing.arm()
        if before.progress and before.progress != now.progress and workflow.patched("progress-by-seconds"):
            self.state.compare_by_seconds()
            self.job.event("ProgressPatternChanged", "earlier checkpoints are compared by the seconds trained")

    def _tell(self, edit: Edit, remarks: list[str]) -> None:
        """Say whether the specs are taken as they stand; an edit that is not is told once."""
        if not edit.refused:
            self.job.condition("Accepted", True, "SpecIsValid", "; ".join(remarks))
            return
        told = self.state.conditions.get("Accepted")
        if told is None or told.message != edit.message:
            self.job.event("EditRefused", edit.message, warning=True)
        self.job.condition("Accepted", False, "CannotBeChanged", edit.message)

    def _take_vm(self, spec: SpotInstanceVMSpec) -> None:
        """VMs that are still to be bought are bought by the edited SpotInstanceVM."""
        edited = self.state.vm_spec is not None and self.state.vm_spec != spec
        if edited and self.state.vms and workflow.patched("buy-by-the-edited-vm"):
            for vm in self.state.vms.values():
                vm.outdated = vm.sought
        self.state.vm_spec = spec

    async def _admit(self) -> None:
        if not await self.checks.passed():
            self.failures += 1
            return
        self.state.admitted = True
        self.checkpointing.arm()
        self.job.event("Admitted", "all checks passed; looks for GPUs")
        if (warning := outputs_warning(self.job.spec)) is not None:
            self.job.event("OutputsNotKept", warning, warning=True)

    async def _wait(self) -> None:
        """For an edit, a wish or the job's end; while something is missing, look again by and by."""
        if self.job.parking or self._done():
            return
        pause, left = self._pause(), len(self.state.wishes)
        healthy = self.state.admitted and self.failures == 0 and not left
        deadline = self.job.after(self.state.timings.resync) if healthy else workflow.now() + pause
        if healthy and workflow.now() < self.checks.due() < deadline and workflow.patched("checks-again"):
            deadline = self.checks.due()
        # A job that ends already is heard of no more; before this patch its document was read again without a pause.
        ends = self.job.ending and workflow.patched("pause-while-ending")
        await self.job.until(
            lambda: self.state.reread or len(self.state.wishes) > left or (self.job.ending and not ends),
            deadline,
            "edits of the SpotInstanceJob" if healthy else "what is missing to appear",
        )

    def _pause(self) -> timedelta:
        """Compute the pause before the next look: what a person has corrected is taken up within two minutes."""
        failures, retry = max(1, self.failures), self.state.timings.retry
        pause, soon = back_off(failures, retry), back_off(failures, retry, ceiling=SOON)
        return soon if soon < pause and workflow.patched("look-again-soon") else pause


def _checked(spec: SpotInstanceJobSpec) -> tuple[object, ...]:
    """Give the parts of a spec that the checks depend on."""
    return spec.checkpoint_config, spec.gcp_credentials_secret_ref, bool(spec.outputs)
