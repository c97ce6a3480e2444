"""No VM is bought for a pod that the cluster refuses: it is asked before each purchase."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.policy.restore import furthest

from workflows.calls import call
from workflows.checkpointing import Checkpointing
from workflows.incarnations import to_create
from workflows.job import Job
from workflows.state import Phase, Replica

UNDER_WAY: frozenset[Phase] = frozenset({"Provisioning", "Joining", "NodeReady", "Restoring", "Starting"})
"""A replica has a machine, or will have one, and may have no pod yet."""
ANY_NODE = "any"
"""Stands where the name of the node will: nobody knows it before the VM is bought."""


class PodCheck:
    """Asks whether the next pod of a replica would be admitted on a VM that is bought for it."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing

    async def verdict(self, me: Replica) -> act.PodVerdict:
        """Ask the cluster now.

        Raises:
            ActivityError: nobody answered.
        """
        if not workflow.patched("ask-for-the-pod"):
            return act.PodVerdict(admitted=True)
        restore = furthest(self.state.points) if self.checkpointing.takes_images else None
        request = to_create(self.job, me.index, me.incarnation + 1, nodes=[ANY_NODE], bought=True, restore=restore)
        question = act.CheckPod(incarnation=request, waiting=self._waiting(me))
        me.asking = True
        try:
            return await call(act.CHECK_POD, question, summary=f"replica {me.index}: would its pod be admitted?")
        finally:
            me.asking = False

    def _waiting(self, me: Replica) -> list[int]:
        """List the other replicas for whose pods there has to be room. Of those that ask now, the first comes first."""
        return [
            each.index
            for each in self.state.replicas.values()
            if each is not me and (each.phase in UNDER_WAY or (each.asking and each.index < me.index))
        ]
