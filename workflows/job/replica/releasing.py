"""The phase Releasing: the Jobs go first, then the machines."""

import itertools

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.job.checkpoints.policy.progress import training_time
    from workflows.policy.backoff import back_off

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.replica.kept_vm import KeptVm
from workflows.job.replica.life import Part
from workflows.job.replica.outputs import Outputs
from workflows.job.state.replica import Old

POLL_SECONDS = 3.0
"""Seconds between the first two polls of a pod that is being stopped. The pause doubles."""

LONGEST_POLL = 10.0
"""The longest pause as a multiple of the first."""


class Releasing(Part):
    """The phase Releasing."""

    async def release(self) -> None:
        """Save the log, delete the Job (but not the winner's), release the VMs, and wait until they are gone."""
        if not await Outputs(self.life).save() or not await KeptVm(self.life).keep():
            return
        olds = self.me.recovery.olds if self.me.recovery else []
        current = self.me.as_old()
        for old in [*olds, *([current] if self.me.run.live else [])]:
            await self.life.save_logs(old.incarnation)
            keeps = self.me.outcome is not None and old.incarnation == self.me.incarnation and not self._runs_on()
            if not keeps and not await self._remove_job(old):
                return
        if not await self.machines.release_all(self.me.index, self.me.halt or self.me.outcome or "Released"):
            return
        why, now = self.me.outcome or self.me.halt or "Released", workflow.now()
        self.state.ledger.end(self.me.index, self.me.incarnation, now, why, reaches=training_time(self.me, now))
        self.me.recovery = None
        self.me.place.leave()
        self.me.place.spare, self.me.place.gathers_since = [], None
        self.me.spot_return.returns = False
        self.me.run.live, self.me.run.view = False, None
        self.me.forget_blockers()
        self.life.enter(self.me.outcome or "Released", self.me.halt or self.me.message)

    def _runs_on(self) -> bool:
        """True if other containers of a pod outlive the training. They end with their Job."""
        run_on = any(pod.phase == "Running" for pod in self.me.run.pods.values())
        return run_on and patched("ends-beside-others")

    async def _remove_job(self, old: Old) -> bool:
        """Delete the Job and wait until its pod has stopped. False if the run ends before that.

        After the deadline a process that may still run counts as ended only if nothing can follow it, because its
        machine goes too or the whole job ends. On any other machine the kubelet has to confirm its end.
        """
        deadline = self.job.after(self.state.timings.drain)
        for polls in itertools.count(1):
            forced = workflow.now() >= deadline and self._may_force(old)
            stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=True, force=forced)
            view = await call(act.STOP_REPLICA, stop, summary=f"delete the Job of {self.me.index}.{old.incarnation}")
            if (not view.job_exists and not view.pods) or forced:
                return True
            waits_for = f"waiting for incarnation {old.incarnation} on {old.names} to stop"
            self.life.say(waits_for)
            again = workflow.now() + back_off(polls, POLL_SECONDS, ceiling=LONGEST_POLL)
            await self.job.until(lambda: False, again, f"replica {self.me.index}: {waits_for}")
            if self.job.parking:
                break
        return False

    def _may_force(self, old: Old) -> bool:
        bought = {vm.report.vm_name for vm in self.state.vms.values() if vm.report}
        ours = all(seat.vm_key is not None or seat.node in bought for seat in old.seats)
        return ours or self.job.ending or self.nodes.dead(old)
