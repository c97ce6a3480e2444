"""``verifyRestore``: see the first image start before it is needed, in a replica that is let go as soon as it runs."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.restore import furthest

from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.state import TERMINAL, Replica

TRIES = 3
"""Machines that are bought for it at most: what cannot be shown by then is left to the first real loss."""


class Proving:
    """One more replica for a while; it counts neither as one that is meant to exist nor as a source."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing

    def direct(self) -> None:
        """Level-triggered: begin it, or let it go."""
        proofs = [replica for replica in self.state.replicas.values() if replica.proof]
        for replica in proofs:
            if replica.halt is None and (not self._is_due() or replica.recovery or replica.phase in TERMINAL):
                replica.halt = "ScaledDown"
                replica.phase = "Released" if replica.phase in TERMINAL else replica.phase
        if not proofs and self._is_due() and self.state.proofs < TRIES:
            self._begin()

    def _is_due(self) -> bool:
        """There is an image, nobody knows whether it starts, and no recovery is about to show it."""
        config, proven = self.job.spec.checkpoint_config, self.state.conditions.get("CheckpointsProven")
        wanted = config.verify_restore and self.checkpointing.takes_images and not self.job.spec.suspend
        unproven = proven is not None and proven.status != "True"
        recovering = any(replica.recovery for replica in self.state.replicas.values() if not replica.proof)
        return wanted and unproven and not recovering and furthest(self.state.points) is not None

    def _begin(self) -> None:
        index = max([*self.state.replicas, *self.state.retired], default=-1) + 1
        self.state.proofs += 1
        self.state.replicas[index] = Replica(index=index, proof=True, since=workflow.now(), ran=False)
        point = furthest(self.state.points)
        image = point.label if point else "a checkpoint"
        self.job.event(
            "VerifiesRestore",
            f"replica {index} shows that {image} starts, and is then let go (try {self.state.proofs} of {TRIES})",
        )
