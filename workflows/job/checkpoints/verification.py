"""``verifyRestore``: a proof replica shows that the first image starts, and is released as soon as it runs."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events
    from workflows.job.checkpoints.policy.restore import furthest

from api.phases import TERMINAL
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.core.job import Job
from workflows.job.state.replica import Replica

ATTEMPTS = 3
"""The most proof replicas. If none of them has shown that the image starts, the first real loss will."""


class Verification:
    """Begins and releases the proof replica of one job. It is never a source, and not one of ``spec.replicas``."""

    def __init__(self, job: Job, checkpoints: Checkpoints) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints

    def direct(self) -> None:
        """Begin the proof replica, or release it. It is level-triggered: a second call changes nothing."""
        proofs = [replica for replica in self.state.replicas.values() if replica.proof]
        for replica in proofs:
            if replica.halt is None and (not self._is_due() or replica.recovery or replica.phase in TERMINAL):
                replica.halt = "ScaledDown"
                replica.phase = "Released" if replica.phase in TERMINAL else replica.phase
        if not proofs and self._is_due() and self.state.proofs < ATTEMPTS:
            self._begin()

    def _is_due(self) -> bool:
        """True if an image exists, nobody knows whether it starts, and no recovery is about to show it."""
        config, proven = self.job.spec.checkpoint_config, self.state.conditions.get(conditions.CHECKPOINTS_PROVEN)
        wanted = config.verify_restore and self.checkpoints.takes_images and not self.job.spec.suspend
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
            events.VERIFIES_RESTORE,
            f"replica {index} is to show that {image} starts, and is then released "
            f"(attempt {self.state.proofs} of {ATTEMPTS})",
        )
