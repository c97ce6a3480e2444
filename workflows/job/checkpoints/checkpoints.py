"""Which replica is checkpointed, and when.

Each checkpoint is a new CheckpointBackup. The external operator's own schedule makes only one checkpoint in effect, and
one that failed or is stuck never goes on.
"""

from collections.abc import Collection
from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons
    from api.fixed import CONTINUE
    from workflows.job.checkpoints.policy.source import (
        SurvivorChoice,
        choose_survivor,
        find_source,
        takes_images,
        under_way,
    )
    from workflows.job.policy.requests import NO_IMAGES, NOT_FIT

from workflows.job.checkpoints.backups import Backups
from workflows.job.checkpoints.rescue import Rescue
from workflows.job.checkpoints.schedule import Schedule
from workflows.job.core.job import Job
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.replica import Recovery, Replica

REMEDY = (
    "a dump needs memory beside the training's, and a process that is dumped answers no probe. Raise the container's "
    f"resources.limits.memory or let its probes wait longer: {CONTINUE}"
)


class Checkpoints:
    """Requests the checkpoints of one job. All other parts of the job come to them through it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.schedule = Schedule(job)
        self.backups = Backups(job, self.schedule)
        self.rescue = Rescue(job, self.backups)

    # --- when

    async def run(self) -> None:
        """Begin each checkpoint when it is due, until the job ends."""
        while not self.job.closing:
            if self.schedule.stale and self.state.admitted:
                await self.schedule.refresh()
            due = self._due()
            await self.job.until(
                lambda seen=due: self._wanted() or self.job.ending or self._changed(seen),  # type: ignore[misc]
                due or self.job.next_look(),
                self._waits_for(),
            )
            if not self.job.closing:
                await self._begin_what_is_due()

    def _changed(self, seen: datetime | None) -> bool:
        return self._due() != seen or (self.schedule.stale and self.state.admitted)

    def _due(self) -> datetime | None:
        return self.state.next_checkpoint_at if self.state.admitted and self.takes_images else None

    def _waits_for(self) -> str:
        if self._due() is None:
            return "the time at which checkpoints are possible"
        choice = self.schedule.choice()
        if self.schedule.paused:
            return "the end of the pause after a checkpoint that killed its training"
        return f"the next checkpoint, each {choice.seconds:.0f} s: {choice.reason}"

    def _wanted(self) -> bool:
        return self.state.admitted and self.state.checkpoint_wanted

    def arm(self) -> None:
        """Set the timer: the next scheduled checkpoint is due one interval from now."""
        self.schedule.arm()

    async def _begin_what_is_due(self) -> None:
        """Begin the checkpoint that is scheduled or requested by a person, of the replica that is furthest now."""
        at, wanted = self._due(), self._wanted()
        if not wanted and (at is None or workflow.now() < at):
            return
        self.state.checkpoint_wanted = False
        self.arm()
        if not self.takes_images:
            self._not_possible(NO_IMAGES)
            return
        await self.backups.reported_progress.read_all()
        source = self.source()
        if source is not None:
            record = self.request(source, "AskedFor" if wanted else "Scheduled")
            if wanted:
                self.state.requests.checkpoint_begun(record.number)
        elif wanted:
            self._not_possible(NOT_FIT)

    def _not_possible(self, why: str) -> None:
        self.job.event(events.CHECKPOINT_NOT_POSSIBLE, why, warning=True)
        self.state.requests.checkpoint_not_possible(why)

    @property
    def takes_images(self) -> bool:
        """True in mode Image. In mode Application the training publishes its own checkpoints."""
        return takes_images(self.state)

    # --- who

    def source(self, but: Collection[int] = ()) -> Replica | None:
        """Find the furthest healthy replica, other than those in ``but``; None if there is none."""
        return find_source(self.state, workflow.now(), but)

    def for_recovery(self, recovery: Recovery) -> None:
        """Checkpoint the furthest survivor for a recovery, unless its last image is recent enough."""
        self.ask(recovery, choose_survivor(self.state, recovery.asked, workflow.now()))

    def ask(self, recovery: Recovery, choice: SurvivorChoice) -> None:
        """Begin the checkpoint that was chosen, and make the recovery wait for it."""
        if choice.newest:
            recovery.checkpoint = max((one.number for one in under_way(self.state)), default=None)
        elif choice.replica is not None:
            recovery.checkpoint_tries += 1
            recovery.asked.append(choice.replica)
            recovery.checkpoint = self.request(self.state.replicas[choice.replica], "Recovery").number

    def request(self, replica: Replica, reason: str) -> Checkpoint:
        """Begin a checkpoint of this replica, or return the one that is under way."""
        return self.backups.request(replica, reason)

    def killed(self, number: int, why: str) -> None:
        """Pause the schedule after a checkpoint that killed its training, and report what helps."""
        until = self.schedule.pause(number)
        next_one = f"The next one is made at {until:%d %b %H:%M} UTC, or at once on the request checkpoint_now"
        self.job.condition(
            conditions.CHECKPOINTS_SUCCEED,
            False,
            reasons.CHECKPOINT_KILLS_TRAINING,
            f"checkpoint {number} {why}: {REMEDY}. {next_one}",
        )

    def resume(self) -> None:
        """Follow the checkpoints that are under way, at the start of a run."""
        self.backups.resume()
