"""The replacement of an incarnation that never ran: on the same machine, on another one, or after a back-off."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons
    from api.views import PodView
    from workflows.job.replica.policy.startup import (
        did_not_start,
        does_not_start,
        init_failure,
        waits_for_others,
    )

from workflows.common.patches import patched
from workflows.job.replica.disruptions import Disruptions
from workflows.job.replica.incarnation import Incarnation
from workflows.job.replica.life import Life, Part
from workflows.job.replica.queued import Queued
from workflows.job.replica.room import Lack
from workflows.job.replica.terms import Terms


class Replacement(Part):
    """Replaces an incarnation of one replica that never ran."""

    def __init__(self, life: Life, incarnation: Incarnation, queue: Queued) -> None:
        super().__init__(life)
        self.queue = queue
        self.incarnation = incarnation
        self.terms = Terms(life)
        self.disruptions = Disruptions(life)

    async def again(
        self,
        cause: str,
        *,
        keep_machine: bool,
        ask_survivor: bool = False,
        announce: bool = True,
        node: str | None = None,
        members: frozenset[int] | None = None,
    ) -> None:
        """Delete the Job and begin another incarnation.

        A gang leaves only the machine of that ``node``, if any, or those of these ``members``.
        """
        members = self.me.place.on_node(node) if node else members
        await self.incarnation.delete(cause)
        if not keep_machine:
            await self.machines.release_each([seat.vm_key for seat in self.me.place.of_members(members)], cause)
            self.me.place.avoid_nodes(members)
        # The market must not count a VM that we released ourselves as lost.
        ours = not keep_machine and self.me.place.bought
        announce = announce and not (ours and patched("no-notice-of-our-own"))
        self.life.replace(
            cause, machine_stays=keep_machine, ask_survivor=ask_survivor, announce=announce, members=members
        )

    async def elsewhere(self, why: str) -> None:
        """Look for another place: none of the cluster's free nodes could be used."""
        if self.me.run.pinned:
            self.queue.buy_instead(why)
            return
        if taken := self._without_room():
            await self.again(why, keep_machine=False, members=taken)
            return
        self.me.place.avoid = sorted({*self.me.place.avoid, *self.me.place.candidates})
        await self.again(why, keep_machine=False)

    def _without_room(self) -> frozenset[int]:
        """Number the members of a gang whose free GPUs others have taken. There are none if it does not keep the rest.

        It keeps those on which its pods are, or on which they were before it saved itself.
        """
        place, recovery = self.me.place, self.me.recovery
        if not place.is_gang:
            return frozenset()
        place.move_to(self.me.run.nodes)
        before = [node for old in recovery.olds for node in old.nodes] if recovery else []
        kept = {*self.me.run.nodes.values()} or {*before}
        taken = frozenset(member for member, seat in enumerate(place.seats) if seat.node not in kept)
        return taken if len(taken) < len(place.seats) else frozenset()

    async def no_room(self, lack: Lack) -> None:
        """Release a machine that has no room for the replica for which it was bought."""
        await self.again(lack.reason, keep_machine=False, announce=False)
        self.me.retry.crowded += 1
        if not self.life.counts_in_vain:
            self.me.retry.in_vain = self.me.retry.crowded - 1
        self.life.back_off(lack.message, in_vain=True)
        self.job.condition(conditions.CAPACITY_AVAILABLE, False, lack.reason, self.me.message)

    async def bad_image(self, kind: str, pod: PodView | None) -> None:
        """Blame the image once two nodes could not start it, or at once if the registry no longer has it."""
        why = (pod.message or pod.waiting_reason or "") if pod else ""
        same_machine = kind == "MissingImage"
        self.life.restore_failed(f"{kind}: {why}", missing=same_machine)
        nothing_else = not self.restore_points.usable_point(self.me)
        await self.again("RestoreFailed", keep_machine=same_machine, ask_survivor=nothing_else)

    async def init_failed(self, pod: PodView | None) -> None:
        """Count a failure of the training itself, for which neither the image nor the machine is to blame."""
        why = init_failure(pod)
        await self.life.save_logs(self.me.incarnation)
        await self.incarnation.delete(why)
        if not self.terms.decide(pod):
            await self.disruptions.failed(why)

    async def never_ran(self, why: str, pod: PodView | None) -> None:
        """Start again on the same machine after a pause, or on another one after the second end in a row."""
        why = f"{why}: {self.me.run.disruption}" if self.me.run.disruption else why
        if pod is not None and did_not_start(pod) and self.life.counts_in_vain:
            why = f"a container did not start, or an init container failed: {pod.message or pod.exit_code}"
            await self.incarnation.delete(why)
            await self.disruptions.failed(why)
            return
        self.job.event(events.START_FAILED, f"replica {self.me.index} on {self.me.place.names}: {why}", warning=True)
        end, leave = self.disruptions.never_ran(why)
        if leave:
            self.life.pod_starts.fails(self.me, reasons.POD_TAKEN_AWAY, why)
        await self.again(why, keep_machine=not leave, announce=not leave, node=end.node)
        self.disruptions.count_never_ran(end)

    async def too_late(self, pod: PodView | None, busy: str) -> None:
        """Leave the machine of a pod that did not run in time. ``busy`` says what is still in progress."""
        blocker = self.me.blocker
        reason = blocker.message if blocker else _overdue(busy)
        if pod is not None and does_not_start(pod):
            self.job.event(
                events.START_TIMEOUT, f"replica {self.me.index} on {self.me.place.names}: {reason}", warning=True
            )
            await self._failed_by_itself(reason)
        elif not self.me.place.bought and pod is not None and waits_for_others(pod):
            await self._free_gpu(blocker.reason if blocker else reasons.START_TIMEOUT, reason)
        elif not self.me.place.bought:
            await self.again(reasons.START_TIMEOUT, keep_machine=False)
        elif pod is None:
            await self._spare_machine(reason)
        else:
            await self._release(blocker.reason if blocker else reasons.START_TIMEOUT, reason, pod.node)

    async def _release(self, reason: str, message: str, node: str | None) -> None:
        """Release a VM that never ran a pod of this replica. The pause before the next one grows."""
        self.job.event(
            events.START_TIMEOUT, f"replica {self.me.index} on {self.me.place.names}: {message}", warning=True
        )
        if self.me.blocker is None:
            self.life.pod_starts.fails(self.me, reason, message)
        await self.again(reason, keep_machine=False, node=node)
        self.life.back_off(message, in_vain=True)

    async def _free_gpu(self, reason: str, message: str) -> None:
        """Leave a GPU of the cluster to others until the cause is corrected. Another machine would not help."""
        nodes = self.me.place.nodes
        self.job.event(
            events.START_TIMEOUT, f"replica {self.me.index} on {self.me.place.names}: {message}", warning=True
        )
        await self.again(reason, keep_machine=False)
        self.me.place.avoid = [each for each in self.me.place.avoid if each not in nodes]
        self.life.back_off(message, in_vain=True)
        self.life.say(f"{message}; retried at {self.me.retry.at:%H:%M:%S} UTC")

    async def _spare_machine(self, reason: str) -> None:
        """Release the VM and keep the Job: nothing is bought until its controller can make the pod."""
        self.job.event(
            events.START_TIMEOUT, f"replica {self.me.index} on {self.me.place.names}: {reason}", warning=True
        )
        await self.machines.release_each(self.me.place.vm_keys, "PodNeverMade")
        self.me.place.leave()
        self.me.retry.in_vain += 1
        self.life.say(f"{reason}; the next VM is bought when its pod can be made")

    async def _failed_by_itself(self, reason: str) -> None:
        """Count a failure of the training itself. Another machine would not help."""
        await self.incarnation.delete(reason)
        self.life.failed_by_itself(reason)

    async def timed_out(self, pod: PodView | None) -> None:
        """Act as earlier releases did, which kept the machine of a pod that waits."""
        if self.me.place.candidates:
            await self.elsewhere("the scheduler gave the free GPU to another pod")
            return
        reason = (pod.message or pod.waiting_reason if pod else None) or "its pod did not run in time"
        self.job.event(
            events.START_TIMEOUT, f"replica {self.me.index} on {self.me.place.names}: {reason}", warning=True
        )
        if pod is not None and does_not_start(pod):
            await self._failed_by_itself(reason)
        elif pod is not None and waits_for_others(pod):
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)  # a person has to act
        else:
            await self.again(reasons.START_TIMEOUT, keep_machine=False)


def _overdue(busy: str) -> str:
    """Say what did not end in time, and what helps."""
    if busy:
        return f"{busy}, which is longer than startDeadline allows: raise that, or use a smaller image"
    return "its pod did not run in time, and no Event says why: read the kubelet's log on the machine meanwhile"
