"""Something to start from, and nobody else at it: the phase Restoring."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.policy.backoff import back_off
    from workflows.policy.queue import comes_first
    from workflows.policy.survivor import out_of_sight

from workflows.calls import call
from workflows.phases.held import Held
from workflows.phases.life import Life, Part
from workflows.state import Old, Recovery, Replica

POLL_SECONDS = 3.0  # until the first look at an old pod of which nothing is heard; doubles to ten times this
LONGEST_POLL = 10.0
PIN_PATIENCE = timedelta(seconds=30)
"""After a checkpoint's end: a registry that is down delays a recovery no longer, a tag does as well where it must."""


class Preparing(Part):
    """Restoring."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.held = Held(life)

    async def restore(self) -> None:
        """Wait for the survivor's checkpoint and for the predecessor's end; then the furthest point *then*."""
        recovery = self.me.recovery
        if recovery is not None:
            self.rescue.dump_once_more(self.me, recovery)
            await self._await_survivor(recovery)
            await self._await_checkpoint(recovery)
            await self._await_old_end(recovery)
        await self._await_digests()
        if self.job.parking or self.life.lost_place():
            return
        choice = await self.restoring.choose(self.me)
        if self.me.proof and (choice is None or choice[0] is None):
            self.me.halt = "ScaledDown"  # there is nothing to be seen on this machine
            return
        if choice is None:
            await self.held.wait()
            return
        if self.held.has_no_machine:
            self.held.ends()
            return
        if self.life.lost_place():
            return
        self.me.restore, why = choice
        self.me.pinned = comes_first(self.me, self.state.hold)
        self.me.incarnation += 1
        self.me.live = True
        self.me.base_seconds = self.me.restore.seconds if self.me.restore else 0
        self.me.view, self.me.view_version, self.me.stalled, self.me.disruption = None, 0, False, None
        self.me.running_since = self.me.reading = self.me.reading_at = self.me.first_reading = None
        self.me.to_prove, self.me.hung = False, ""
        self.me.hindered_since = None
        self.life.enter("Queued" if self.me.pinned else "Starting", why)

    async def _await_survivor(self, recovery: Recovery) -> None:
        """Nothing was ever saved, and who trains on is out of sight: better to wait a while than to begin anew."""
        if recovery.checkpoint_tries or not self.checkpointing.takes_images or not self.rescue.settled(recovery):
            return
        since = recovery.node_ready_at or workflow.now()
        deadline = since + timedelta(seconds=self.state.timings.not_ready_grace)
        while not self.job.parking and not self.life.machine_lost() and not self.restoring.usable_point(self.me):
            silent = self._out_of_sight()
            if silent is None or workflow.now() >= deadline:
                break
            self.life.say(
                f"waits until {deadline:%H:%M:%S} UTC for node {silent.node} to be Ready again: replica {silent.index} "
                "trains there, and nothing was checkpointed yet"
            )
            changed = await self.life.until(
                lambda seen=silent: self._out_of_sight() is not seen or self.life.machine_lost(),  # type: ignore[misc]
                min(deadline, self.job.after(self.state.timings.resync)),
                f"replica {self.me.index}: {self.me.message}",
            )
            if not changed and silent.node:
                node = act.NodeRef(name=silent.node)
                self.nodes.see((await call(act.OBSERVE_NODE, node, summary=f"is {node.name} back?")).view)
        if self.checkpointing.source() is not None and not self.restoring.usable_point(self.me):
            self.checkpointing.for_recovery(recovery)

    def _out_of_sight(self) -> Replica | None:
        state = self.state
        if self.checkpointing.source() is not None:
            return None
        return out_of_sight(state.replicas.values(), state.nodes, state.notices, workflow.now())

    async def _await_checkpoint(self, recovery: Recovery) -> None:
        while not self.job.parking and not self.life.machine_lost():
            if self.rescue.to_be_tried_again(recovery):
                recovery.checkpoint = None
                self.checkpointing.for_recovery(recovery)
            if self.rescue.settled(recovery):
                return
            self.life.say(f"waits for {self.rescue.waits_for(recovery)}")
            await self.life.until(
                lambda: (
                    self.rescue.settled(recovery) or self.rescue.to_be_tried_again(recovery) or self.life.machine_lost()
                ),
                self.rescue.patience(recovery),
                f"replica {self.me.index}: {self.me.message}",
            )

    async def _await_old_end(self, recovery: Recovery) -> None:
        """No two of one replica: the old pod is confirmed stopped, or its machine gone, before the new one starts."""
        stop_at = recovery.noticed_at + timedelta(seconds=self.state.timings.pod_stop)
        for old in recovery.olds:
            looks = 0
            while not old.stopped and not self.job.parking and not self.life.machine_lost():
                if old.view is not None and old.view.suspended and not old.asked_to_stop:
                    await self._withdraw(old)
                if self.rescue.saved(recovery) and not old.asked_to_stop and not self.nodes.stopped(old):
                    await self._stop_old(old)
                self.life.say(f"waits for incarnation {old.incarnation} on {old.node or 'no node'} to have stopped")
                looks += 1
                again = workflow.now() + back_off(looks, POLL_SECONDS, ceiling=LONGEST_POLL)
                await self.life.until(
                    lambda one=old: self.nodes.stopped(one) or self.life.machine_lost(),  # type: ignore[misc]
                    again if old.asked_to_stop else min(again, stop_at),
                    f"replica {self.me.index}: {self.me.message}",
                )
                if not self.nodes.stopped(old):
                    old.view = await call(act.OBSERVE_REPLICA, self.life.ref(old.incarnation), summary=self.me.message)
                if self.nodes.stopped(old):
                    old.stopped = True
                elif workflow.now() >= stop_at:
                    await self._stop_old(old)

    async def _stop_old(self, old: Old) -> None:
        """It was announced to go and did not: a rehearsal, or a notice that came to nothing. Stop it ourselves."""
        if not old.asked_to_stop:
            await self.life.save_logs(old.incarnation)
            self.job.event(
                "StopsPredecessor",
                f"replica {self.me.index}: incarnation {old.incarnation} still runs on {old.node}",
                warning=True,
            )
            old.asked_to_stop = True
        stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=False)
        old.view = await call(act.STOP_REPLICA, stop, summary=f"stop incarnation {old.incarnation}")
        await self.machines.release(old.vm_key, "Preempted")

    async def _withdraw(self, old: Old) -> None:
        """Delete a Job that was suspended while it ran: once let in again it would start a second pod."""
        await self.life.save_logs(old.incarnation)
        old.logs_saved = old.asked_to_stop = True
        stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=True)
        old.view = await call(act.STOP_REPLICA, stop, summary=f"delete the suspended Job of {old.incarnation}")

    async def _await_digests(self) -> None:
        """Of a checkpoint that has just ended: what its tag names may change, what its digest names does not."""
        point = self.restoring.unpinned(self.me) if self.checkpointing.takes_images else None
        if point is None or workflow.now() >= point.created_at + PIN_PATIENCE:
            return
        self.life.say(f"waits for the digest of {point.label}")
        await self.life.until(
            lambda: self.restoring.unpinned(self.me) is None or self.life.machine_lost(),
            point.created_at + PIN_PATIENCE,
            f"replica {self.me.index}: {self.me.message}",
        )
