"""The check before each purchase that the cluster would admit the pod for which a VM is bought."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.job.checkpoints.policy.restore import furthest

from api.phases import Phase
from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.core.incarnations import to_create
from workflows.job.core.job import Job
from workflows.job.state.replica import Replica

UNDER_WAY: frozenset[Phase] = frozenset({"Provisioning", "Joining", "NodeReady", "Restoring", "Starting"})
"""The phases in which a replica has or will have a machine, but may have no pod yet."""

ANY_NODE = "any"
"""Stands for the node's name, which nobody knows before the VM is bought."""


class PodCheck:
    """Asks whether the next pod of a replica would be admitted on a VM bought for it."""

    def __init__(self, job: Job, checkpoints: Checkpoints) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints

    async def verdict(self, me: Replica) -> act.PodVerdict:
        """Ask the cluster by a dry run.

        Raises:
            ActivityError: Nobody answered.
        """
        if not patched("ask-for-the-pod"):
            return act.PodVerdict(admitted=True)
        restore = furthest(self.state.points) if self.checkpoints.takes_images else None
        request = to_create(self.job, me.index, me.incarnation + 1, nodes=[ANY_NODE], bought=True, restore=restore)
        question = act.CheckPod(incarnation=request, waiting=self._waiting(me))
        me.asking = True
        try:
            return await call(act.CHECK_POD, question, summary=f"replica {me.index}: would its pod be admitted?")
        finally:
            me.asking = False

    def _waiting(self, me: Replica) -> list[int]:
        """List the other replicas whose pods also need room. Of those that are asking, the lower index comes first."""
        return [
            each.index
            for each in self.state.replicas.values()
            if each is not me and (each.phase in UNDER_WAY or (each.asking and each.index < me.index))
        ]
