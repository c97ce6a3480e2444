"""Ends that our own work caused: a checkpoint that killed its training, a restore that did not last.

They do not count against ``maxRestarts``: the image is given up, or checkpoints are paused, and the training goes on.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.backoff import back_off
    from workflows.policy.blame import DEATHS_KEPT, at_the_same_place, death_of, ended_soon, killed_by
    from workflows.policy.verdict import deciding_end

from workflows.phases.life import Life, Part


class Blame(Part):
    """Whose fault the end of one replica is, once it is known that nothing took it away."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.readings = life.checkpointing.following.readings

    async def restore_broke(self, why: str) -> bool:
        """True if the training ended by what it was restored from: then a recovery has begun."""
        if not workflow.patched("own-ends"):
            return False
        last = await self.readings.ask(self.me)
        self.me.reading = self.me.reading if last is None else last
        soon = ended_soon(self.me.restore, self.life.ran_seconds(), unproven=self.me.to_prove)
        return await self._restore_broke(why, soon=soon)

    async def restore_hung(self, why: str) -> bool:
        """True if a training that stands still made no progress since its restore: then a recovery has begun."""
        return await self._restore_broke(why, soon=self.me.to_prove)

    def killed_by_checkpoint(self, why: str) -> bool:
        """True if its own checkpoint killed the training: then a recovery has begun."""
        me, pod = self.me, self.me.view.pod if self.me.view else None
        if pod is None or me.dump is None:
            return False
        end = deciding_end(pod, self.job.spec.main_container)
        if end is None or not killed_by(me.dump, me.incarnation, end.exit_code, end.finished_at or me.since):
            return False
        if not workflow.patched("own-ends"):
            return False
        number = me.dump.number
        self.job.event("CheckpointKilled", f"replica {me.index}: checkpoint {number} killed it: {why}", warning=True)
        self.checkpointing.killed(number, f"killed replica {me.index} ({why})")
        self.life.replace(f"its checkpoint killed it: {why}", machine_stays=True, ask_survivor=False)
        return True

    async def _restore_broke(self, why: str, *, soon: bool) -> bool:
        """Blame the image if its training ends soon, unless it ended at the same step after another start."""
        me, ran = self.me, self.life.ran_seconds()
        death = death_of(me, ran if ran < float("inf") else self._seconds_since_start())
        again = at_the_same_place(death, self.state.deaths)
        self.state.deaths = [*self.state.deaths, death][-DEATHS_KEPT:]
        if me.restore is None or not soon:
            me.broken = 0
            return False
        told = f"{why}, {ran:.0f} s after it was restored" if ran < float("inf") else why
        if again:
            return False
        self.restoring.broke(me.restore, f"{me.index}.{me.incarnation}", told)
        me.broken += 1
        await self._try_another(told)
        return True

    async def _try_another(self, told: str) -> None:
        """Try another machine first, then the next image or a start from the beginning.

        One machine may be what is broken, and two that fail in the same way are not. Slower each time, for all images
        may be broken.
        """
        me, label = self.me, self.me.restore.label if self.me.restore else ""
        self.job.event(
            "RestoreFailed",
            f"replica {me.index} on {me.node}: {told} from {label}: no restart is counted",
            warning=True,
        )
        nothing_else = not self.restoring.usable_point(me)
        key, leaves = me.vm_key, me.broken == 1 and me.vm_key is not None
        self.life.replace("RestoreFailed", machine_stays=not leaves, ask_survivor=nothing_else, announce=False)
        if leaves:
            await self.machines.release(key, "RestoreFailed")
        if me.broken > 1:
            me.retry_at = workflow.now() + back_off(me.broken - 1, self.state.timings.retry, factor=6, ceiling=360)
            self.life.say(f"{told}; the next restore is tried at {me.retry_at:%H:%M:%S} UTC")

    def _seconds_since_start(self) -> float:
        started = self.me.running_since or workflow.now()
        return (workflow.now() - started).total_seconds()
