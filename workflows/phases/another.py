"""Another incarnation in place of one that never ran: on the machine that it has, on another, or after a rest."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.views import PodView
    from workflows.policy.startup import did_not_start, does_not_start, init_failure, waits_for_others

from workflows.phases.incarnation import Incarnation
from workflows.phases.life import Life, Part
from workflows.phases.queued import Queued
from workflows.phases.room import Lack
from workflows.phases.standing import Standing
from workflows.phases.terms import Terms
from workflows.starts import TAKEN_AWAY, TOO_LATE


class Another(Part):
    """What follows an incarnation that never ran."""

    def __init__(self, life: Life, incarnation: Incarnation, queue: Queued) -> None:
        super().__init__(life)
        self.queue = queue
        self.incarnation = incarnation
        self.terms = Terms(life)
        self.standing = Standing(life)

    async def again(self, cause: str, *, keep_machine: bool, ask_survivor: bool = False, announce: bool = True) -> None:
        """Delete the Job and begin anew."""
        await self.incarnation.delete(cause)
        if not keep_machine:
            await self.machines.release(self.me.vm_key, cause)
            if self.me.node:
                self.me.avoid = [*self.me.avoid, self.me.node][-8:]
        # What we let go of ourselves is no loss for the market to count.
        told = announce and not (not keep_machine and self.me.vm_key and workflow.patched("no-notice-of-our-own"))
        self.life.replace(cause, machine_stays=keep_machine, ask_survivor=ask_survivor, announce=told)

    async def elsewhere(self, why: str) -> None:
        """Seek elsewhere: none of the cluster's free nodes could be had."""
        if self.me.pinned:
            self.queue.buy_instead(why)
            return
        self.me.avoid = sorted({*self.me.avoid, *self.me.candidates})
        await self.again(why, keep_machine=False)

    async def no_room(self, lack: Lack) -> None:
        """Let go of a machine that has no room for the replica it was bought for."""
        await self.again(lack.reason, keep_machine=False, announce=False)
        self.me.crowded += 1
        if not self.life.counts_in_vain:
            self.me.in_vain = self.me.crowded - 1
        self.life.back_off(lack.message, in_vain=True)
        self.job.condition("CapacityAvailable", False, lack.reason, self.me.message)

    async def bad_image(self, trouble: str, pod: PodView | None) -> None:
        """Blame the image once two nodes could not start it, or at once if the registry no longer has it."""
        why = (pod.message or pod.waiting_reason or "") if pod else ""
        same_machine = trouble == "MissingImage"
        self.life.restore_failed(f"{trouble}: {why}", missing=same_machine)
        nothing_else = not self.restoring.usable_point(self.me)
        await self.again("RestoreFailed", keep_machine=same_machine, ask_survivor=nothing_else)

    async def init_failed(self, pod: PodView | None) -> None:
        """Count the training's own failure, for which neither image nor machine is to blame."""
        why = init_failure(pod)
        await self.life.save_logs(self.me.incarnation)
        await self.incarnation.delete(why)
        if not self.terms.decide(pod):
            await self.standing.failed(why)

    async def never_ran(self, why: str, pod: PodView | None) -> None:
        """Start again on the same machine after a pause; the second time in a row on another one."""
        why = f"{why}: {self.me.disruption}" if self.me.disruption else why
        if pod is not None and did_not_start(pod) and self.life.counts_in_vain:
            why = f"a container did not start, or an init container failed: {pod.message or pod.exit_code}"
            await self.incarnation.delete(why)
            await self.standing.failed(why)
            return
        self.job.event("StartFailed", f"replica {self.me.index} on {self.me.node}: {why}", warning=True)
        end, leave = self.standing.never_ran(why)
        if leave:
            self.life.starts.fails(self.me, TAKEN_AWAY, why)
        await self.again(why, keep_machine=not leave, announce=not leave)
        self.standing.count_never_ran(end)

    async def too_late(self, pod: PodView | None, busy: str) -> None:
        """Give up the machine of a pod that does not run; ``busy`` says what goes on."""
        trouble = self.me.trouble
        reason = trouble.message if trouble else _overdue(busy)
        if pod is not None and does_not_start(pod):
            self.job.event("StartTimeout", f"replica {self.me.index} on {self.me.node}: {reason}", warning=True)
            await self._failed_by_itself(reason)
        elif self.me.vm_key is None and pod is not None and waits_for_others(pod):
            await self._free_gpu(trouble.reason if trouble else TOO_LATE, reason)
        elif self.me.vm_key is None:
            await self.again("StartTimeout", keep_machine=False)
        elif pod is None:
            await self._spare_machine(reason)
        else:
            await self.give_back(trouble.reason if trouble else TOO_LATE, reason)

    async def give_back(self, reason: str, message: str) -> None:
        """Let go of a VM that never ran a pod of this replica; the next one is bought ever later."""
        self.job.event("StartTimeout", f"replica {self.me.index} on {self.me.node}: {message}", warning=True)
        if self.me.trouble is None:
            self.life.starts.fails(self.me, reason, message)
        await self.again(reason, keep_machine=False)
        self.life.back_off(message, in_vain=True)

    async def _free_gpu(self, reason: str, message: str) -> None:
        """Leave a GPU of the cluster to others until the cause is corrected, which no other machine would help."""
        node = self.me.node
        self.job.event("StartTimeout", f"replica {self.me.index} on {node}: {message}", warning=True)
        await self.again(reason, keep_machine=False)
        self.me.avoid = [each for each in self.me.avoid if each != node]
        self.life.back_off(message, in_vain=True)
        self.life.say(f"{message}; tried again at {self.me.retry_at:%H:%M:%S} UTC")

    async def _spare_machine(self, reason: str) -> None:
        """Let go of the VM and keep the Job: nothing is bought until its controller can make the pod."""
        self.job.event("StartTimeout", f"replica {self.me.index} on {self.me.node}: {reason}", warning=True)
        await self.machines.release(self.me.vm_key, "PodNeverMade")
        self.me.vm_key = self.me.node = None
        self.me.in_vain += 1
        self.life.say(f"{reason}; the next VM is bought when its pod can be made")

    async def _failed_by_itself(self, reason: str) -> None:
        """Count a failure of the training, for which no other machine would help."""
        await self.incarnation.delete(reason)
        self.life.failed_by_itself(reason)

    async def timed_out(self, pod: PodView | None) -> None:
        """Act as earlier releases did, which kept a machine without a running pod."""
        if self.me.candidates:
            await self.elsewhere("the scheduler gave the free GPU to another pod")
            return
        reason = (pod.message or pod.waiting_reason if pod else None) or "its pod did not run in time"
        self.job.event("StartTimeout", f"replica {self.me.index} on {self.me.node}: {reason}", warning=True)
        if pod is not None and does_not_start(pod):
            await self._failed_by_itself(reason)
        elif pod is not None and waits_for_others(pod):
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)  # nor here: a person has to act
        else:
            await self.again("StartTimeout", keep_machine=False)


def _overdue(busy: str) -> str:
    """Say what was not done in time, and what helps."""
    if busy:
        return f"{busy}, which is longer than startDeadline allows: raise that, or let less be fetched"
    return "its pod did not run in time, and no Event says why: look at the kubelet's log of the machine meanwhile"
