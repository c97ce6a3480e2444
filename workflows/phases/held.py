"""A replica that is held: there is nothing to start from, and a person decides. Its VM is not kept for that."""

from datetime import datetime, timedelta

from temporalio import workflow

from workflows.phases.life import Part


class Held(Part):
    """The wait for a decision, or for a sibling's image."""

    async def wait(self) -> None:
        """Tell what to do, and wait until that is done; a VM that was bought waits ten minutes at most."""
        config = self.job.spec.checkpoint_config
        said = self.restoring.held(self.me)
        self.life.say(said if self.me.vm_key else f"{said}; a VM is bought once that is corrected")
        leaves_at, look = self._leaves_at(), self.job.after(self.state.timings.resync)
        decided = await self.life.until(
            lambda: (
                self.restoring.usable_point(self.me)
                or self.job.spec.checkpoint_config != config
                or self.life.machine_lost()
            ),
            look if leaves_at is None else min(look, leaves_at),
            f"replica {self.me.index}: {self.me.message}",
        )
        if not decided and leaves_at is not None and workflow.now() >= leaves_at and not self.job.parking:
            await self._give_back(said)
        self.life.lost_place()

    @property
    def has_no_machine(self) -> bool:
        """True if its VM was given back meanwhile."""
        return self.me.hindered_since is not None and self.me.vm_key is None and self.me.node is None

    def ends(self) -> None:
        """There is something to start from: seek a machine."""
        self.me.hindered_since = None
        self._seek("there is something to start from now")

    def _seek(self, why: str) -> None:
        self.life.enter("Preempted" if self.me.has_run else "Pending", why)

    def _leaves_at(self) -> datetime | None:
        """When its VM goes back; None if none was bought for it."""
        if self.me.vm_key is None or not workflow.patched("held-without-machine"):
            return None
        self.me.hindered_since = self.me.hindered_since or workflow.now()
        return self.me.hindered_since + timedelta(seconds=self.state.timings.correction_wait)

    async def _give_back(self, said: str) -> None:
        """Let go of the VM. If the image fits other machines alone, seek one of those, ever more rarely."""
        others_fit = self.restoring.fits_others(self.me)
        self.job.event("StartTimeout", f"replica {self.me.index} lets go of {self.me.node}: {said}", warning=True)
        await self.machines.release(self.me.vm_key, "Held")
        self.me.vm_key = self.me.node = None
        if others_fit:
            self._seek(said)
            self.life.back_off(said, in_vain=True)
