"""The wait for a decision: a replica has nothing to start from, and a person decides. Its VM is not kept for long."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events

from workflows.common.patches import patched
from workflows.job.replica.life import Part


class Decision(Part):
    """Waits for a person's decision, or for a sibling's image."""

    async def wait(self) -> None:
        """Report what a person can do, and wait for it. A bought VM is released after ten minutes."""
        config = self.job.spec.checkpoint_config
        message = self.restore_points.report_none(self.me)
        self.life.say(message if self.me.place.bought else f"{message}; a VM is bought once that is corrected")
        leaves_at, check = self._leaves_at(), self.job.next_check()
        decided = await self.life.until(
            lambda: (
                self.restore_points.usable_point(self.me)
                or self.job.spec.checkpoint_config != config
                or self.life.machine_lost()
            ),
            check if leaves_at is None else min(check, leaves_at),
            f"replica {self.me.index}: {self.me.message}",
        )
        if not decided and leaves_at is not None and workflow.now() >= leaves_at and not self.job.parking:
            await self._release(message)
        self.life.lost_place()

    @property
    def has_no_machine(self) -> bool:
        """True if its VM was released meanwhile."""
        return self.me.run.blocked_since is not None and not self.me.place.has_machine

    def end(self) -> None:
        """End the wait and look for a machine: the replica has something to start from."""
        self.me.run.blocked_since = None
        self._look_for_machine("there is something to start from now")

    def _look_for_machine(self, why: str) -> None:
        self.life.enter("Preempted" if self.me.has_run else "Pending", why)

    def _leaves_at(self) -> datetime | None:
        """Return when to release its VM; None if it has none."""
        if not self.me.place.bought or not patched("held-without-machine"):
            return None
        self.me.run.blocked_since = self.me.run.blocked_since or workflow.now()
        return self.me.run.blocked_since + timedelta(seconds=self.state.timings.correction_wait)

    async def _release(self, message: str) -> None:
        """Release the VM. If the image fits only other machines, look for one of those after a growing pause."""
        others_fit = self.restore_points.fits_others(self.me)
        what = f"replica {self.me.index} releases {self.me.place.names}: {message}"
        self.job.event(events.START_TIMEOUT, what, warning=True)
        await self.machines.release_each(self.me.place.vm_keys, "Held")
        self.me.place.leave()
        if others_fit:
            self._look_for_machine(message)
            self.life.back_off(message, in_vain=True)
