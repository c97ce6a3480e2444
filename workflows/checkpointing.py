"""Checkpoints: who is checkpointed when.

A new CheckpointBackup each time: the external operator's cron takes in effect one checkpoint only, and one that
failed or stuck never goes on.
"""

from collections.abc import Collection
from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.fixed import CONTINUE
    from workflows.policy.progress import lineage_seconds
    from workflows.policy.survivor import source_for_checkpoint

from workflows.following import KILLS, SUCCEED, Following
from workflows.job import Job
from workflows.pacing import Pacing
from workflows.state import Checkpoint, Dump, Recovery, Replica, Source

REMEDY = (
    "a dump needs memory beside the training's, and a process that is dumped answers no probe. Raise the container's "
    f"resources.limits.memory or let its probes wait longer: {CONTINUE}"
)


class Checkpointing:
    """The checkpoints of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.pacing = Pacing(job)
        self.following = Following(job, self.pacing)

    # --- when

    async def run(self) -> None:
        """The timer: until the job ends, see to it that what is due begins."""
        while not self.job.closing:
            if self.pacing.stale and self.state.admitted:
                await self.pacing.refresh()
            due = self._due()
            await self.job.until(
                lambda seen=due: self._wanted() or self.job.ending or self._changed(seen),  # type: ignore[misc]
                due or self.job.after(self.state.timings.resync),
                self._waits_for(),
            )
            if not self.job.closing:
                await self._begin_what_is_due()

    def _changed(self, seen: datetime | None) -> bool:
        return self._due() != seen or (self.pacing.stale and self.state.admitted)

    def _due(self) -> datetime | None:
        return self.state.next_checkpoint_at if self.state.admitted and self.takes_images else None

    def _waits_for(self) -> str:
        if self._due() is None:
            return "checkpoints to be possible"
        choice = self.pacing.choice()
        if self.pacing.paused:
            return "the end of the pause after a checkpoint that killed its training"
        return f"the next checkpoint, each {choice.seconds:.0f} s: {choice.reason}"

    def _wanted(self) -> bool:
        return self.state.admitted and self.state.checkpoint_wanted

    def arm(self) -> None:
        """The next scheduled checkpoint is due an interval from now."""
        self.pacing.arm()

    async def _begin_what_is_due(self) -> None:
        """The scheduled checkpoint, or the one a person asked for: of the replica that is furthest now."""
        at, wanted = self._due(), self._wanted()
        if not wanted and (at is None or workflow.now() < at):
            return
        self.state.checkpoint_wanted = False
        self.arm()
        if not self.takes_images:
            self.job.event("CheckpointNotPossible", "in mode Application the training checkpoints itself", warning=True)
            return
        await self.following.readings.read_all()
        source = self.source()
        if source is not None:
            self.request(source, "AskedFor" if wanted else "Scheduled")
        elif wanted:
            self.job.event("CheckpointNotPossible", "no replica is fit to be checkpointed now", warning=True)

    @property
    def takes_images(self) -> bool:
        """In mode Application the training keeps its own checkpoints."""
        return self.job.spec.checkpoint_config.mode == "Image"

    # --- who

    def source(self, but: Collection[int] = ()) -> Replica | None:
        """The furthest healthy replica."""
        state = self.state
        replicas = [each for each in state.replicas.values() if each.index not in but and not each.proof]
        return source_for_checkpoint(replicas, state.nodes, state.notices, workflow.now())

    def for_recovery(self, recovery: Recovery) -> None:
        """Ask the furthest survivor for a fresh image; its own dump pauses it, so a young one is good enough."""
        if not self.takes_images or self.pacing.paused:
            return
        survivor = self.source(but=recovery.asked) or self.source()
        if survivor is None:
            # Of one that is going itself: it may be done before the machine is gone.
            recovery.checkpoint = max((one.number for one in self._under_way()), default=None)
            return
        if self._seconds_unsaved(survivor) < self.state.last_dump_seconds:
            return
        recovery.checkpoint_tries += 1
        recovery.asked.append(survivor.index)
        recovery.checkpoint = self.request(survivor, "Recovery").number

    def _seconds_unsaved(self, replica: Replica) -> float:
        """Training that no image holds yet: since its last checkpoint, or since it was restored from one itself."""
        restored = replica.running_since if replica.restore else None
        saved = [moment for moment in (replica.last_checkpoint_time, restored) if moment]
        return (workflow.now() - max(saved)).total_seconds() if saved else float("inf")

    def request(self, replica: Replica, reason: str) -> Checkpoint:
        """Begin a checkpoint of this replica; the one under way on it serves as well."""
        running = self.under_way_on(replica)
        if running is not None:
            return running
        source = Source(
            replica=replica.index,
            incarnation=replica.incarnation,
            node=replica.node,
            lineage_seconds=lineage_seconds(replica, workflow.now()),
            reading=replica.reading,
            fingerprint=self.state.fingerprint_under(replica),
        )
        return self.begin(source, reason)

    def begin(self, source: Source, reason: str, *, ends_at: datetime | None = None) -> Checkpoint:
        """Record a checkpoint and begin it; ``ends_at`` is when its machine is gone."""
        record = Checkpoint(
            **{name: getattr(source, name) for name in Source.model_fields},
            number=self.state.checkpoint_number + 1,
            reason=reason,
            requested_at=workflow.now(),
            ends_at=ends_at,
        )
        self.state.checkpoint_number = record.number
        self.state.checkpoints[record.number] = record
        self._note(record)
        self.job.spawn(self.following.follow(record), f"checkpoint {record.number}")
        self.job.touch()
        return record

    def _note(self, record: Checkpoint) -> None:
        """Its training may be killed by it; that it is dumped once more shows that the one before did not."""
        replica = self.state.replicas.get(record.replica)
        if replica is None or not replica.live or replica.incarnation != record.incarnation:
            return
        if replica.dump and replica.dump.incarnation == record.incarnation and replica.dump.usable:
            self.state.kills = 0
        replica.dump = Dump(number=record.number, incarnation=record.incarnation, requested_at=record.requested_at)

    def killed(self, number: int, why: str) -> None:
        """A checkpoint killed its training: pause, and tell what helps."""
        until = self.pacing.pause(number)
        next_one = f"The next one is tried at {until:%d %b %H:%M} UTC, or at once on the signal checkpoint_now"
        self.job.condition(SUCCEED, False, KILLS, f"checkpoint {number} {why}: {REMEDY}. {next_one}")

    def resume(self) -> None:
        """After continue-as-new: go on with those under way."""
        for record in self._under_way():
            self.job.spawn(self.following.follow(record), f"checkpoint {record.number}")

    def under_way_on(self, replica: Replica) -> Checkpoint | None:
        """The checkpoint of this incarnation that has not ended yet."""
        mine = (replica.index, replica.incarnation)
        return next((one for one in self._under_way() if (one.replica, one.incarnation) == mine), None)

    def _under_way(self) -> list[Checkpoint]:
        return [record for record in self.state.checkpoints.values() if record.outcome is None]

    def settled(self, recovery: Recovery) -> bool:
        """The checkpoint that this recovery waits for has ended, or there is none."""
        record = self.state.checkpoints.get(recovery.checkpoint or -1)
        return record is None or record.outcome is not None

    def failed(self, recovery: Recovery) -> bool:
        """It ended without an image."""
        record = self.state.checkpoints.get(recovery.checkpoint or -1)
        return record is not None and record.outcome == "Failed"
