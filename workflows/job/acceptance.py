"""The acceptance of a job: read its documents and check what it needs before money is spent, and after each edit."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, errors, events, reasons
    from api.common import Condition
    from api.identity import borrowed
    from api.spot_instance_job import SpotInstanceJobSpec
    from api.spot_instance_vm import SpotInstanceVMSpec
    from workflows.job.policy.edits import Edit, judge
    from workflows.job.policy.grace import with_grace
    from workflows.job.policy.outputs import lost_outputs, outputs_warning
    from workflows.policy.backoff import SOON, back_off

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.checks import Checks
from workflows.job.core.job import Job
from workflows.job.requests.requests import Requests


class Acceptance:
    """Accepts one job and its edits. A condition says what is wrong, and becomes True once that is corrected."""

    def __init__(self, job: Job, checkpoints: Checkpoints, requests: Requests) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints
        self.requests = requests
        self.checks = Checks(job)
        self.failures = 0
        self.read: act.JobDocument | None = None  # the last one, in this run

    async def run(self) -> None:
        """Accept the job, then follow the edits of its spec until it ends."""
        if self.state.admitted:
            self.checkpoints.resume()
        while not self.job.parking and not self._done():
            await self._write_requests()
            try:
                await self._read()
            except ActivityError as error:
                reason, message = explain(error)
                self.job.condition(conditions.ACCEPTED, None if self.state.spec else False, reason, message)
                self.failures += 1
            self.checks.repeat()
            await self._wait()

    def _done(self) -> bool:
        return self.job.ending and (self.state.spec is not None or self.state.unreadable)

    async def _write_requests(self) -> None:
        """Write what people requested by signal or update into the spec, so that kubectl and Temporal agree.

        A request that cannot be written now is retried. Meanwhile edits are still read.
        """
        while self.state.edits:
            try:
                await call(act.PATCH_SPEC, self.state.edits[0], summary="write a person's request into the spec")
            except ActivityError as error:
                reason, message = explain(error)
                if reason == errors.TRANSIENT:
                    workflow.logger.warning("a person's request is not written yet: %s", message)
                    return
                self.job.event(events.WISH_REFUSED, message, warning=True)
                self.state.requests.edit_refused(self.state.edits[0], message)
            self.state.edits.pop(0)
            self.state.requests.unread = True

    async def _read(self) -> None:
        self.state.reread, self.state.requests.unread = False, True
        request = act.LoadJob(**self.job.ref.model_dump(), known=self.read.digest if self.read else "")
        document = self._whole(
            await call(act.LOAD_JOB, request, summary="read the SpotInstanceJob and what it refers to")
        )
        if document.exists:
            await self._take(document)
            self.state.requests.unread = self.state.reread
            self.requests.read_annotation(document.request)
        else:
            self.state.shutdown = (
                self.state.shutdown or reasons.GONE
            )  # the teardown works with the spec that was read before
        if self.job.ending and self.state.spec is None:
            self.state.unreadable = True
        self.job.touch()

    def _whole(self, document: act.JobDocument) -> act.JobDocument:
        """Put back the specs that this run has read before."""
        if document.unchanged and self.read is not None:
            document = document.model_copy(update={"spec": self.read.spec, "vm_spec": self.read.vm_spec})
        self.read = document if document.digest else None
        return document

    async def _take(self, document: act.JobDocument) -> None:
        if document.deleting:
            self.state.shutdown = self.state.shutdown or reasons.DELETED
        self.state.generation = max(self.state.generation, document.generation)
        self.state.timings = with_grace(document.timings, document.spec or self.state.spec)
        self.state.searchable = document.searchable
        if document.deleting and self.state.admitted:
            return  # nobody checked this spec, so the teardown works with the one that was accepted
        if problems := self._problems(document):
            self.failures += 1
            for problem in problems[:1]:
                self.job.condition(conditions.ACCEPTED, False, problem.reason, problem.message)
            if self.job.ending or self.state.admitted:
                # A teardown works with any spec it can get. A running job goes on with the one that it had.
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

        An accepted job keeps what it borrowed of the worker's identity. If one more of its pods would be refused, that
        says nothing about those that run: they may be what fills the quota. It is checked before a VM is bought.
        """
        kept = borrowed(self.state.spec, self.state.vm_spec) if self.state.admitted and self.state.spec else []
        problems = [
            each for each in document.problems if not (self.state.admitted and each.reason == reasons.POD_REFUSED)
        ]
        return problems + [each.problem for each in document.not_lent if each.wanted not in kept]

    def _accept(self, document: act.JobDocument) -> None:
        # The SpotInstanceVM may be gone if the job is being deleted.
        spec, vm_spec = document.spec, document.vm_spec or self.state.vm_spec
        assert spec is not None
        if vm_spec is None:
            self.state.spec = spec
            self.job.condition(conditions.ACCEPTED, True, reasons.SPEC_IS_VALID, "; ".join(document.warnings))
            return
        edit = judge(self.state, spec, vm_spec)
        if edit.concerns_fixed and not patched("fixed-fields"):
            edit = Edit(spec, vm_spec)
        old, old_vm, self.state.spec = self.state.spec, self.state.vm_spec, edit.spec
        self._take_vm(edit.vm_spec)
        self._report(edit, [*document.warnings, *lost_outputs(spec)])
        if old is not None and (_checked(old), old_vm) != (_checked(edit.spec), edit.vm_spec):
            self.state.checked_at = None
        if old is not None and old.job_template != edit.spec.job_template and patched("just-checked"):
            self.state.checked_at = None
        if not self.state.admitted or old is None:
            return
        self.state.admitted = not edit.anew
        before, now = old.checkpoint_config, self.job.spec.checkpoint_config
        if before.checkpoint_interval != now.checkpoint_interval:
            self.checkpoints.schedule.end_pause()
            self.checkpoints.arm()
        if before.progress and before.progress != now.progress and patched("progress-by-seconds"):
            self.state.compare_by_seconds()
            self.job.event(events.PROGRESS_PATTERN_CHANGED, "earlier checkpoints are compared by their training time")

    def _report(self, edit: Edit, warnings: list[str]) -> None:
        """Report whether the specs are accepted as they are. An Event reports a refused edit once."""
        if not edit.refused:
            self.job.condition(conditions.ACCEPTED, True, reasons.SPEC_IS_VALID, "; ".join(warnings))
            return
        before = self.state.conditions.get(conditions.ACCEPTED)
        if before is None or before.message != edit.message:
            self.job.event(events.EDIT_REFUSED, edit.message, warning=True)
        self.job.condition(conditions.ACCEPTED, False, reasons.CANNOT_BE_CHANGED, edit.message)

    def _take_vm(self, spec: SpotInstanceVMSpec) -> None:
        """Take over the spec of the SpotInstanceVM. An edit concerns all VMs that are still to be bought."""
        edited = self.state.vm_spec is not None and self.state.vm_spec != spec
        if edited and self.state.vms and patched("buy-by-the-edited-vm"):
            for vm in self.state.vms.values():
                vm.outdated = vm.to_be_bought
        self.state.vm_spec = spec

    async def _admit(self) -> None:
        if not await self.checks.passed():
            self.failures += 1
            return
        self.state.admitted = True
        self.checkpoints.arm()
        self.job.event(events.ADMITTED, "all checks passed; looking for GPUs")
        if (warning := outputs_warning(self.job.spec)) is not None:
            self.job.event(events.OUTPUTS_NOT_KEPT, warning, warning=True)

    async def _wait(self) -> None:
        """Wait for an edit, a request or the job's end. While something is wrong, wait for the next check."""
        if self.job.parking or self._done():
            return
        pause, left = self._pause(), len(self.state.edits)
        healthy = self.state.admitted and self.failures == 0 and not left
        deadline = self.job.next_look() if healthy else workflow.now() + pause
        if healthy and workflow.now() < self.checks.due() < deadline and patched("checks-again"):
            deadline = self.checks.due()
        # Once a job ends no more edits arrive. Before this patch its document was then read again without a pause.
        ends = self.job.ending and patched("pause-while-ending")
        await self.job.until(
            lambda: self.state.reread or len(self.state.edits) > left or (self.job.ending and not ends),
            deadline,
            "an edit of the SpotInstanceJob" if healthy else "the next check of what is missing",
        )

    def _pause(self) -> timedelta:
        """Return the pause before the next check: a person's correction is noticed within two minutes."""
        failures, retry = max(1, self.failures), self.state.timings.retry
        pause, soon = back_off(failures, retry), back_off(failures, retry, ceiling=SOON)
        return soon if soon < pause and patched("look-again-soon") else pause


def _checked(spec: SpotInstanceJobSpec) -> tuple[object, ...]:
    """Return the parts of a spec on which the checks depend."""
    return spec.checkpoint_config, spec.gcp_credentials_secret_ref, bool(spec.outputs)
