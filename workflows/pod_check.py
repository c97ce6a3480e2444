"""No VM is bought for a pod that the cluster refuses: it is asked before each purchase."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.policy.restore import furthest

from workflows.calls import call
from workflows.checkpointing import Checkpointing
from workflows.incarnations import to_create
from workflows.job import Job
from workflows.state import Replica

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
        return await call(
            act.CHECK_POD, act.CheckPod(incarnation=request), summary=f"replica {me.index}: would its pod be admitted?"
        )
