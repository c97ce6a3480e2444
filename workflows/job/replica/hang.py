"""A stalled training is stopped, and started again from a restore point that was made before the stall."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.common.calls import call
from workflows.job.replica.blame import Blame
from workflows.job.replica.disruptions import Disruptions
from workflows.job.replica.life import Life, Part


class Hang(Part):
    """Ends the stalled training of one replica."""

    def __init__(self, life: Life, blame: Blame, disruptions: Disruptions) -> None:
        super().__init__(life)
        self.blame = blame
        self.disruptions = disruptions

    async def end(self) -> None:
        """Stop the training. That counts as a restart, unless it has made no progress at all since its restore."""
        why = f"stalled: {self.me.run.hung}"
        await self.life.save_logs(self.me.incarnation)
        stop = act.StopReplica(ref=self.life.ref(), delete_job=False)
        await call(act.STOP_REPLICA, stop, summary=f"stop {self.life.job_name}: it {why}")
        self.me.run.hung = ""
        self.restore_points.hung(self.me)
        if not await self.blame.restore_hung(why):
            await self.disruptions.failed(why)
