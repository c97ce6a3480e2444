"""Suspend: what the training has reached is saved first, then everything is let go of. No I/O, no waiting."""

from collections.abc import Iterable

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.restore import furthest
    from workflows.policy.survivor import out_of_sight

from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.state import TERMINAL, Replica

MAX_TRIES = 5  # checkpoints that may fail before it is suspended without one


class Suspending:
    """Turns ``spec.suspend`` into each replica's ``halt``, and back."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing

    def direct(self, replicas: Iterable[Replica]) -> None:
        """Level-triggered: the same orders however often it is called."""
        if not self.job.spec.suspend:
            self.state.suspended, self.state.suspend_checkpoint, self.state.suspend_tries = False, None, 0
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
            tries = self.state.suspend_tries
            message = f"waits for a checkpoint, try {tries} of {MAX_TRIES}"
            self.job.condition("Suspended", False, "Checkpointing" if tries <= 1 else "CheckpointFailed", message)
        elif "Suspended" in self.state.conditions:
            self.job.condition("Suspended", False, "Resumed")

    def _is_saved(self) -> bool:
        """Or cannot be. A checkpoint that fails is asked for again, of another replica where there is one."""
        record = self.state.checkpoints.get(self.state.suspend_checkpoint or 0)
        if record is not None and record.outcome != "Failed":
            return record.outcome is not None
        if not self.checkpointing.takes_images:
            return True  # on SIGTERM such a training saves itself
        source = self.checkpointing.source(but=[record.replica] if record else []) or self.checkpointing.source()
        if source is None:
            return self._out_of_sight() is None  # nobody trains: there is nothing that no image holds
        if self.state.suspend_tries >= MAX_TRIES:
            self._tell_loss()
            return True
        self.state.suspend_tries += 1
        self.state.suspend_checkpoint = self.checkpointing.request(source, "Suspend").number
        return False

    def _out_of_sight(self) -> Replica | None:
        state = self.state
        return out_of_sight(state.replicas.values(), state.nodes, state.notices, workflow.now())

    def _tell_loss(self) -> None:
        point = furthest(self.state.points)
        goes_on = f"from {point.label}" if point else "from the beginning"
        self.job.event(
            "SuspendedUnsaved",
            f"{MAX_TRIES} checkpoints failed: suspends without one, and goes on {goes_on} when resumed",
            warning=True,
        )
