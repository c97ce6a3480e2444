"""Suspend: what the training has reached is saved first, then everything is released.

A suspension has no hurry: while no checkpoint succeeds the training goes on, and a person may force it by
``spec.suspendUnsaved``.
"""

from collections.abc import Iterable
from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.backoff import back_off
    from workflows.policy.restore import furthest
    from workflows.policy.survivor import out_of_sight

from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.state import TERMINAL, Checkpoint, Replica

OLD_TRIES = 5
"""Failed checkpoints after which jobs that began on an earlier release are suspended without one."""


class Suspending:
    """Turns ``spec.suspend`` into each replica's ``halt``, and back."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing
        self._wakes = False

    def direct(self, replicas: Iterable[Replica]) -> None:
        """Level-triggered: the same orders however often it is called."""
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

    def tell(self) -> None:
        """The condition that people wait for."""
        if self.state.suspended:
            released = all(replica.phase in TERMINAL for replica in self.state.replicas.values())
            self.job.condition("Suspended", released, "Suspended")
        elif self.job.spec.suspend:
            silent = self._out_of_sight()
            if silent is not None and self.checkpointing.source() is None:
                message = f"waits for node {silent.node} to be Ready again: replica {silent.index} trains there"
                self.job.condition("Suspended", False, "NodeNotReady", message)
                return
            self.job.condition("Suspended", False, *self._waits_for())
        elif "Suspended" in self.state.conditions:
            self.job.condition("Suspended", False, "Resumed")

    def _waits_for(self) -> tuple[str, str]:
        """Give the reason and message of a suspension that waits for its checkpoint."""
        tries, record = self.state.suspend_tries, self._record
        if not workflow.patched("suspend-waits"):
            told = f"waits for a checkpoint, try {tries} of {OLD_TRIES}"
            return "Checkpointing" if tries <= 1 else "CheckpointFailed", told
        if record is None or (tries <= 1 and record.outcome != "Failed"):
            return "Checkpointing", "waits for a checkpoint"
        why = f": {record.message}" if record.message else ""
        remedy = "set spec.suspendUnsaved: true to suspend without it"
        return "CheckpointFailed", f"{tries} checkpoints failed, tries again{why}; {remedy}"

    @property
    def _record(self) -> Checkpoint | None:
        """Find the last checkpoint that was asked for before suspending."""
        return self.state.checkpoints.get(self.state.suspend_checkpoint or 0)

    def _is_saved(self) -> bool:
        """True if the training is saved, or there is nothing to save, or a person does not wait for it."""
        record = self._record
        if record is not None and record.outcome == "Usable":
            return True
        if not self.checkpointing.takes_images:
            return True  # on SIGTERM such a training saves itself
        if self.job.spec.suspend_unsaved:
            self._tell_loss("spec.suspendUnsaved is set")
            return True
        if record is not None and record.outcome is None:
            return False
        source = self.checkpointing.source(but=[record.replica] if record else []) or self.checkpointing.source()
        if source is None:
            return self._out_of_sight() is None  # nobody trains: there is nothing that no image holds
        if self.state.suspend_tries >= OLD_TRIES and not workflow.patched("suspend-waits"):
            self._tell_loss(f"{OLD_TRIES} checkpoints failed")
            return True
        if record is not None and self._is_to_rest():
            return False
        self.state.suspend_tries += 1
        self.state.suspend_checkpoint = self.checkpointing.request(source, "Suspend").number
        return False

    def _is_to_rest(self) -> bool:
        """True until a checkpoint that failed may be asked for again: at once the first time, then longer each time."""
        if self.state.suspend_tries < 2 or not workflow.patched("suspend-waits"):
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
            self.job.spawn(self._wake(moment), "next checkpoint to suspend with")

    async def _wake(self, moment: datetime) -> None:
        await self.job.until(lambda: not self.job.spec.suspend, moment, "the next checkpoint to suspend with")
        self._wakes = False

    def _out_of_sight(self) -> Replica | None:
        state = self.state
        return out_of_sight(state.replicas.values(), state.nodes, state.notices, workflow.now())

    def _tell_loss(self, why: str) -> None:
        point = furthest(self.state.points)
        goes_on = f"from {point.label}" if point else "from the beginning"
        self.job.event(
            "SuspendedUnsaved",
            f"{why}: suspends without a checkpoint, and goes on {goes_on} when resumed",
            warning=True,
        )
