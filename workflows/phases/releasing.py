"""Letting go: of the Jobs, then of the machines."""

import itertools

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.policy.backoff import back_off

from workflows.calls import call
from workflows.phases.keeping import Keeping
from workflows.phases.life import Part
from workflows.phases.outputs import Outputs
from workflows.state import Old

POLL_SECONDS = 3.0  # until the next look at a pod that is to stop; doubles to ten times this
LONGEST_POLL = 10.0


class Releasing(Part):
    """Releasing."""

    async def release(self) -> None:
        """Save the log, delete the Job (the winner's stays), release the VMs, and see them gone."""
        if not await Outputs(self.life).save() or not await Keeping(self.life).keep():
            return
        olds = self.me.recovery.olds if self.me.recovery else []
        current = Old(incarnation=self.me.incarnation, node=self.me.node, vm_key=self.me.vm_key)
        for old in [*olds, *([current] if self.me.live else [])]:
            await self.life.save_logs(old.incarnation)
            keeps = self.me.outcome is not None and old.incarnation == self.me.incarnation and not self._runs_on()
            if not keeps and not await self._remove_job(old):
                return
        if not await self.machines.release_all(self.me.index, self.me.halt or self.me.outcome or "Released"):
            return
        self.state.ledger.end(
            self.me.index, self.me.incarnation, workflow.now(), self.me.outcome or self.me.halt or "Released"
        )
        self.me.recovery = self.me.node = self.me.vm_key = self.me.view = None
        self.me.live = False
        self.me.forget_trouble()
        self.life.enter(self.me.outcome or "Released", self.me.halt or self.me.message)

    def _runs_on(self) -> bool:
        """True if other containers of its pod outlive the training: they end with their Job."""
        pod = self.me.view.pod if self.me.view else None
        return pod is not None and pod.phase == "Running" and workflow.patched("ends-beside-others")

    async def _remove_job(self, old: Old) -> bool:
        """Delete the Job and see its pod stopped, before the machine under it goes; False where the job parks first.

        A process that may still run is taken for ended only where nothing follows it: its machine goes, too, or the
        whole job ends. On any other machine the kubelet has to say so.
        """
        deadline = self.job.after(self.state.timings.drain)
        for looks in itertools.count(1):
            forced = workflow.now() >= deadline and self._may_force(old)
            stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=True, force=forced)
            view = await call(act.STOP_REPLICA, stop, summary=f"delete the Job of {self.me.index}.{old.incarnation}")
            if (not view.job_exists and view.pod is None) or forced:
                return True
            waits_for = f"waits for incarnation {old.incarnation} on {old.node or 'no node'} to have stopped"
            self.life.say(waits_for)
            again = workflow.now() + back_off(looks, POLL_SECONDS, ceiling=LONGEST_POLL)
            await self.job.until(lambda: False, again, f"replica {self.me.index}: {waits_for}")
            if self.job.parking:
                break
        return False

    def _may_force(self, old: Old) -> bool:
        bought = {vm.report.vm_name for vm in self.state.vms.values() if vm.report}
        return old.vm_key is not None or old.node in bought or self.job.ending or self.nodes.dead(old)
