"""Letting go: of the Jobs, then of the machines."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call
from workflows.phases.keeping import Keeping
from workflows.phases.life import Part
from workflows.phases.outputs import Outputs

POLL_SECONDS = 3.0


class Releasing(Part):
    """Releasing."""

    async def release(self) -> None:
        """Save the log, delete the Job (the winner's stays), release the VMs, and see them gone."""
        if not await Outputs(self.life).save() or not await Keeping(self.life).keep():
            return
        olds = [old.incarnation for old in self.me.recovery.olds] if self.me.recovery else []
        current = [self.me.incarnation] if self.me.live else []
        for incarnation in [*olds, *current]:
            await self.life.save_logs(incarnation)
            if self.me.outcome is None or incarnation != self.me.incarnation:
                await self._remove_job(incarnation)
        if not await self.machines.release_all(self.me.index, self.me.halt or self.me.outcome or "Released"):
            return
        self.me.recovery = self.me.node = self.me.vm_key = self.me.view = None
        self.me.live = False
        self.life.enter(self.me.outcome or "Released", self.me.halt or self.me.message)

    async def _remove_job(self, incarnation: int) -> None:
        """Delete the Job and see its pod stopped, before the machine under it goes."""
        deadline = self.job.after(self.state.timings.drain)
        while True:
            late = workflow.now() >= deadline
            stop = act.StopReplica(ref=self.life.ref(incarnation), delete_job=True, force=late)
            view = await call(act.STOP_REPLICA, stop, summary=f"delete the Job of {self.me.index}.{incarnation}")
            if (not view.job_exists and view.pod is None) or late:
                return
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))
