"""The suspension of a job: its training is saved first, then everything is released.

It is not urgent, so the training goes on until a checkpoint succeeds. A person may force it by ``spec.suspendUnsaved``.
"""

from collections.abc import Iterable
from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons
    from workflows.job.checkpoints.policy.restore import furthest
    from workflows.job.checkpoints.policy.survivor import unreachable
    from workflows.policy.backoff import back_off

from api.phases import TERMINAL
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.core.job import Job
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.replica import Replica

OLD_ATTEMPTS = 5
"""After this many failed checkpoints a run of an earlier release is suspended without one."""


class Suspension:
    """Sets each replica's ``halt`` by ``spec.suspend``, and clears it when the job is resumed."""

    def __init__(self, job: Job, checkpoints: Checkpoints) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints
        self._wakes = False

    def direct(self, replicas: Iterable[Replica]) -> None:
        """Decide which replicas are suspended or resumed. It is level-triggered: a second call changes nothing."""
        if not self.job.spec.suspend:
            self.state.suspended, self.state.suspend_checkpoint = False, None
            self.state.suspend_tries, self.state.suspend_retry_at = 0, None
        elif not self.state.suspended:
            self.state.suspended = self._is_saved()
        for replica in replicas:
            if self.state.suspended and replica.outcome is None:
                replica.halt = "Suspended"
            elif replica.halt == "Suspended" and replica.phase == "Released":
                replica.halt, replica.phase, replica.since = None, "Pending", workflow.now()

    def report(self) -> None:
        """Write the condition that people wait for."""
        if self.state.suspended:
            released = all(replica.phase in TERMINAL for replica in self.state.replicas.values())
            self.job.condition(conditions.SUSPENDED, released, reasons.SUSPENDED)
        elif self.job.spec.suspend:
            silent = self._unreachable()
            if silent is not None and self.checkpoints.source() is None:
                message = (
                    f"waiting for node {silent.place.names} to be Ready again: replica {silent.index} trains there"
                )
                self.job.condition(conditions.SUSPENDED, False, reasons.NODE_NOT_READY, message)
                return
            self.job.condition(conditions.SUSPENDED, False, *self._waits_for())
        elif conditions.SUSPENDED in self.state.conditions:
            self.job.condition(conditions.SUSPENDED, False, reasons.RESUMED)

    def _waits_for(self) -> tuple[str, str]:
        """Return the reason and the message of a suspension that waits for its checkpoint."""
        attempts, record = self.state.suspend_tries, self._record
        if not patched("suspend-waits"):
            message = f"waiting for a checkpoint, attempt {attempts} of {OLD_ATTEMPTS}"
            return reasons.CHECKPOINTING if attempts <= 1 else reasons.CHECKPOINT_FAILED, message
        if record is None or (attempts <= 1 and record.outcome != "Failed"):
            return reasons.CHECKPOINTING, "waiting for a checkpoint"
        why = f": {record.message}" if record.message else ""
        remedy = "set spec.suspendUnsaved: true to suspend without one"
        return reasons.CHECKPOINT_FAILED, f"{attempts} checkpoints failed, trying again{why}; {remedy}"

    @property
    def _record(self) -> Checkpoint | None:
        """Return the last checkpoint that was requested for this suspension; None if there is none."""
        return self.state.checkpoints.get(self.state.suspend_checkpoint or 0)

    def _is_saved(self) -> bool:
        """True if the training is saved, if there is nothing to save, or if a person does not want to wait for it."""
        record = self._record
        if record is not None and record.outcome == "Usable":
            return True
        if not self.checkpoints.takes_images:
            return True  # such a training saves itself on SIGTERM
        if self.job.spec.suspend_unsaved:
            self._report_loss("spec.suspendUnsaved is set")
            return True
        if record is not None and record.outcome is None:
            return False
        source = self.checkpoints.source(but=[record.replica] if record else []) or self.checkpoints.source()
        if source is None:
            return self._unreachable() is None  # if nobody trains, the images contain everything
        if self.state.suspend_tries >= OLD_ATTEMPTS and not patched("suspend-waits"):
            self._report_loss(f"{OLD_ATTEMPTS} checkpoints failed")
            return True
        if record is not None and self._is_backing_off():
            return False
        self.state.suspend_tries += 1
        self.state.suspend_checkpoint = self.checkpoints.request(source, "Suspend").number
        return False

    def _is_backing_off(self) -> bool:
        """True until a failed checkpoint may be retried: the first one at once, later ones after a growing pause."""
        if self.state.suspend_tries < 2 or not patched("suspend-waits"):
            return False
        if self.state.suspend_retry_at is None:
            pause = back_off(self.state.suspend_tries - 1, self.state.timings.retry)
            self.state.suspend_retry_at = workflow.now() + pause
        if workflow.now() < self.state.suspend_retry_at:
            self._wake_at(self.state.suspend_retry_at)
            return True
        self.state.suspend_retry_at = None
        return False

    def _wake_at(self, moment: datetime) -> None:
        if not self._wakes:
            self._wakes = True
            self.job.spawn(self._wake(moment), "next checkpoint for the suspension")

    async def _wake(self, moment: datetime) -> None:
        await self.job.until(lambda: not self.job.spec.suspend, moment, "the next checkpoint for the suspension")
        self._wakes = False

    def _unreachable(self) -> Replica | None:
        state = self.state
        return unreachable(state.replicas.values(), state.nodes, state.notices, workflow.now())

    def _report_loss(self, why: str) -> None:
        point = furthest(self.state.points)
        continues = f"from {point.label}" if point else "from the beginning"
        self.job.event(
            events.SUSPENDED_UNSAVED,
            f"{why}: suspended without a checkpoint; the training will continue {continues} when resumed",
            warning=True,
        )
