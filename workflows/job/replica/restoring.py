"""The phase Restoring: the replica waits for its restore point and for its predecessor's end."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from workflows.job.checkpoints.policy.survivor import unreachable
    from workflows.job.replica.policy.queue import comes_first
    from workflows.policy.backoff import back_off

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.replica.decision import Decision
from workflows.job.replica.life import Life, Part
from workflows.job.state.replica import Old, Recovery, Replica

POLL_SECONDS = 3.0
"""Seconds until the first poll of an old pod. The pause doubles."""

TOLD_SECONDS = 15.0
"""Seconds until the first poll if the bridge is expected to tell of the pod's end."""

LONGEST_POLL = 10.0
"""The longest pause as a multiple of the first."""

PIN_PATIENCE = timedelta(seconds=30)
"""How long after a checkpoint its digests are waited for. If the registry is down, the recovery uses the tag."""


class Restoring(Part):
    """The phase Restoring."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.decision = Decision(life)

    async def restore(self) -> None:
        """Wait for the checkpoints under way and for the predecessor's end, then choose the furthest restore point."""
        recovery = self.me.recovery
        if recovery is not None:
            self.rescue.begin_second(self.me, recovery)
            await self._await_survivor(recovery)
            await self._await_checkpoint(recovery)
            await self._await_old_end(recovery)
        await self._await_digests()
        if self.job.parking or self.life.lost_place():
            return
        choice = await self.restore_points.choose(self.me)
        if self.me.proof and (choice is None or choice[0] is None):
            self.me.halt = "ScaledDown"  # this machine cannot prove anything
            return
        if choice is None:
            await self.decision.wait()
            return
        if self.decision.has_no_machine:
            self.decision.end()
            return
        if self.life.lost_place():
            return
        restore, why = choice
        self.me.incarnation += 1
        self.me.run.begin(restore, pinned=comes_first(self.me, self.state.hold))
        self.life.enter("Queued" if self.me.run.pinned else "Starting", why)

    async def _await_survivor(self, recovery: Recovery) -> None:
        """Wait a while for an unreachable survivor if nothing was ever saved: the alternative is a cold start."""
        if recovery.checkpoint_tries or not self.checkpoints.takes_images or not self.rescue.settled(recovery):
            return
        since = recovery.node_ready_at or workflow.now()
        deadline = since + timedelta(seconds=self.state.timings.not_ready_grace)
        while not self.job.parking and not self.life.machine_lost() and not self.restore_points.usable_point(self.me):
            silent = self._unreachable()
            if silent is None or workflow.now() >= deadline:
                break
            self.life.say(
                f"waiting until {deadline:%H:%M:%S} UTC for node {silent.place.names} to be Ready again: "
                f"replica {silent.index} trains there, and nothing was checkpointed yet"
            )
            changed = await self.life.until(
                lambda seen=silent: self._unreachable() is not seen or self.life.machine_lost(),  # type: ignore[misc]
                min(deadline, self.job.next_check()),
                f"replica {self.me.index}: {self.me.message}",
            )
            for name in silent.place.nodes if not changed else []:
                node = act.NodeRef(name=name)
                self.nodes.see((await call(act.OBSERVE_NODE, node, summary=f"is {name} Ready again?")).view)
        if self.checkpoints.source() is not None and not self.restore_points.usable_point(self.me):
            self.checkpoints.for_recovery(recovery)

    def _unreachable(self) -> Replica | None:
        state = self.state
        if self.checkpoints.source() is not None:
            return None
        return unreachable(state.replicas.values(), state.nodes, state.notices, workflow.now())

    async def _await_checkpoint(self, recovery: Recovery) -> None:
        while not self.job.parking and not self.life.machine_lost():
            if self.rescue.is_to_be_retried(recovery):
                recovery.checkpoint = None
                self.checkpoints.for_recovery(recovery)
            if self.rescue.settled(recovery):
                return
            self.life.say(f"waiting for {self.rescue.waits_for(recovery)}")
            await self.life.until(
                lambda: (
                    self.rescue.settled(recovery) or self.rescue.is_to_be_retried(recovery) or self.life.machine_lost()
                ),
                self.rescue.waits_until(recovery),
                f"replica {self.me.index}: {self.me.message}",
            )

    async def _await_old_end(self, recovery: Recovery) -> None:
        """Wait until the old pod is confirmed stopped or its machine gone, so that no two of one replica run."""
        stop_at = recovery.noticed_at + timedelta(seconds=self.state.timings.pod_stop)
        for old in recovery.olds:
            polls = 0
            while not old.stopped and not self.job.parking and not self.life.machine_lost():
                if old.view is not None and old.view.suspended and not old.asked_to_stop:
                    await self._withdraw(old)
                if self.rescue.saved(recovery) and not old.asked_to_stop and not self.nodes.stopped(old):
                    await self._stop_old(old)
                self.life.say(f"waiting for incarnation {old.incarnation} on {old.names} to stop")
                polls += 1
                first = TOLD_SECONDS if patched("one-look") else POLL_SECONDS  # the bridge tells of its end
                again = workflow.now() + back_off(polls, first, ceiling=LONGEST_POLL * POLL_SECONDS / first)
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
        """Stop an old pod ourselves: its machine had a notice but did not go, as in a rehearsal."""
        if not old.asked_to_stop:
            await self.life.save_logs(old.incarnation)
            self.job.event(
                events.STOPS_PREDECESSOR,
                f"replica {self.me.index}: incarnation {old.incarnation} still runs on {old.names}",
                warning=True,
            )
            old.asked_to_stop = True
        stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=False)
        old.view = await call(act.STOP_REPLICA, stop, summary=f"stop incarnation {old.incarnation}")
        await self.machines.release_each(old.vm_keys, "Preempted")

    async def _withdraw(self, old: Old) -> None:
        """Delete a Job that was suspended while it ran: once admitted again, it would start a second pod."""
        await self.life.save_logs(old.incarnation)
        old.logs_saved = old.asked_to_stop = True
        stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=True)
        old.view = await call(act.STOP_REPLICA, stop, summary=f"delete the suspended Job of {old.incarnation}")

    async def _await_digests(self) -> None:
        """Wait for the digests of a checkpoint that has just ended: unlike its tag, they cannot be moved."""
        point = self.restore_points.unpinned(self.me) if self.checkpoints.takes_images else None
        if point is None or workflow.now() >= point.created_at + PIN_PATIENCE:
            return
        self.life.say(f"waiting for the digest of {point.label}")
        await self.life.until(
            lambda: self.restore_points.unpinned(self.me) is None or self.life.machine_lost(),
            point.created_at + PIN_PATIENCE,
            f"replica {self.me.index}: {self.me.message}",
        )
