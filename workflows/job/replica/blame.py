"""Ends that our own work caused: a checkpoint that killed its training, or a restore that did not last.

They do not count against ``maxRestarts``. The image is rejected or checkpoints are paused, and the training goes on.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events
    from workflows.job.replica.policy.blame import (
        DEATHS_KEPT,
        at_the_same_place,
        death_of,
        ended_soon,
        killed_by,
    )
    from workflows.job.replica.policy.verdict import deciding_end

from workflows.common.patches import patched
from workflows.job.replica.life import Life, Part


class Blame(Part):
    """Finds out who is to blame for a replica's end, once it is known that nothing took its pod away."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.reported_progress = life.checkpoints.backups.reported_progress

    async def restore_broke(self, why: str) -> bool:
        """True if the image is to blame for a training's end. Then a recovery has begun."""
        if not patched("own-ends"):
            return False
        last = await self.reported_progress.last(self.me)
        self.me.run.reading = self.me.run.reading if last is None else last
        soon = ended_soon(self.me.run.restore, self.life.ran_seconds(), unproven=self.me.run.to_prove)
        return await self._restore_broke(why, soon=soon)

    async def restore_hung(self, why: str) -> bool:
        """True if a stalled training has made no progress since its restore. Then a recovery has begun."""
        return await self._restore_broke(why, soon=self.me.run.to_prove)

    def killed_by_checkpoint(self, why: str) -> bool:
        """True if its own checkpoint killed the training. Then a recovery has begun."""
        me, pod = self.me, self.life.decisive_pod
        if pod is None or me.run.dump is None:
            return False
        end = deciding_end(pod, self.job.spec.main_container)
        if end is None or not killed_by(me.run.dump, me.incarnation, end.exit_code, end.finished_at or me.since):
            return False
        if not patched("own-ends"):
            return False
        number = me.run.dump.number
        self.job.event(
            events.CHECKPOINT_KILLED, f"replica {me.index}: checkpoint {number} killed it: {why}", warning=True
        )
        self.checkpoints.killed(number, f"killed replica {me.index} ({why})")
        self.life.replace(f"its checkpoint killed it: {why}", machine_stays=True, ask_survivor=False)
        return True

    async def _restore_broke(self, why: str, *, soon: bool) -> bool:
        """Blame the image if its training ended soon, unless it had ended at the same place after another start."""
        me, ran = self.me, self.life.ran_seconds()
        death = death_of(me, ran if ran < float("inf") else self._seconds_since_start())
        again = at_the_same_place(death, self.state.deaths)
        self.state.deaths = [*self.state.deaths, death][-DEATHS_KEPT:]
        if me.run.restore is None or not soon:
            me.retry.broken = 0
            return False
        what = f"{why}, {ran:.0f} s after it was restored" if ran < float("inf") else why
        if again:
            return False
        self.restore_points.broke(me.run.restore, f"{me.index}.{me.incarnation}", what)
        await self._try_another(what)
        return True

    async def _try_another(self, what: str) -> None:
        """Try another machine first, then the next image or a start from the beginning.

        One machine may be broken, but two that fail in the same way are not. The pause grows each time, because all
        images may be broken.
        """
        me, label = self.me, self.me.run.restore.label if self.me.run.restore else ""
        self.job.event(
            events.RESTORE_FAILED,
            f"replica {me.index} on {me.place.names}: {what} from {label}: no restart is counted",
            warning=True,
        )
        nothing_else = not self.restore_points.usable_point(me)
        keys, leaves = me.place.vm_keys, me.retry.broken == 0 and me.place.bought
        self.life.replace("RestoreFailed", machine_stays=not leaves, ask_survivor=nothing_else, announce=False)
        if leaves:
            await self.machines.release_each(keys, "RestoreFailed")
        if me.retry.after_broken_restore(workflow.now(), self.state.timings.retry):
            self.life.say(f"{what}; the next restore is tried at {me.retry.at:%H:%M:%S} UTC")

    def _seconds_since_start(self) -> float:
        started = self.me.run.running_since or workflow.now()
        return (workflow.now() - started).total_seconds()
