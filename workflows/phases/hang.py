"""A training that stands still is stopped, and started again from what was saved before it came to stand."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call
from workflows.phases.blame import Blame
from workflows.phases.life import Life, Part
from workflows.phases.standing import Standing


class Hang(Part):
    """The end that we make of a training that stands still."""

    def __init__(self, life: Life, blame: Blame, standing: Standing) -> None:
        super().__init__(life)
        self.blame = blame
        self.standing = standing

    async def end(self) -> None:
        """Stop it. That counts as a restart, unless its image has made no progress at all."""
        why = f"stands still: {self.me.hung}"
        await self.life.save_logs(self.me.incarnation)
        stop = act.StopReplica(ref=self.life.ref(), delete_job=False)
        await call(act.STOP_REPLICA, stop, summary=f"stop {self.life.job_name}: it {why}")
        self.me.hung = ""
        self.restoring.hung(self.me)
        if not await self.blame.restore_hung(why):
            await self.standing.failed(why)
