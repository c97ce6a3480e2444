"""Checkpoints: who is checkpointed when, and each CheckpointBackup from the request to its end.

A new CheckpointBackup each time: the external operator's cron takes in effect one checkpoint only, and one that
failed or stuck never goes on.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors
    from api.names import checkpoint_name
    from api.views import CheckpointView, RestorePoint
    from workflows.calls import call, explain
    from workflows.job import Job
    from workflows.pacing import Pacing
    from workflows.policy.progress import lineage_seconds
    from workflows.policy.survivor import source_for_checkpoint
    from workflows.retention import Retention
    from workflows.state import Checkpoint, Recovery, Replica

DUMPS_REMEMBERED = 3


class Checkpointing:
    """The checkpoints of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.on_failure: Callable[[Checkpoint], None] = lambda record: None
        self.pacing = Pacing(job)
        self.retention = Retention(job)

    # --- when

    async def run(self) -> None:
        """The timer: until the job ends, see to it that what is due begins."""
        while not self.job.parking and not self.job.ending:
            if self.pacing.stale and self.state.admitted:
                await self.pacing.refresh()
            due = self._due()
            await self.job.until(
                lambda seen=due: self._wanted() or self.job.ending or self._changed(seen),  # type: ignore[misc]
                due or self.job.after(self.state.timings.resync),
                self._waits_for(),
            )
            if not self.job.ending and not self.job.parking:
                await self._begin_what_is_due()

    def _changed(self, seen: datetime | None) -> bool:
        return self._due() != seen or (self.pacing.stale and self.state.admitted)

    def _due(self) -> datetime | None:
        return self.state.next_checkpoint_at if self.state.admitted and self.takes_images else None

    def _waits_for(self) -> str:
        if self._due() is None:
            return "checkpoints to be possible"
        choice = self.pacing.choice()
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
        await self._read_progress_of_all()
        source = self.source()
        if source is not None:
            self.request(source, "AskedFor" if wanted else "Scheduled")
        elif wanted:
            self.job.event("CheckpointNotPossible", "no replica is fit to be checkpointed now", warning=True)

    async def _read_progress_of_all(self) -> None:
        """Before the furthest is chosen at leisure, ask each training how far it is; on a notice there is no time."""
        pattern = self.job.spec.checkpoint_config.progress
        if pattern is not None:
            running = [replica for replica in self.state.replicas.values() if replica.phase == "Running"]
            await asyncio.gather(*(self._read_progress(replica, pattern.log_pattern) for replica in running))

    async def _read_progress(self, replica: Replica, pattern: str) -> None:
        incarnation = replica.incarnation
        ref = act.ReplicaRef(job=self.job.ref, replica=replica.index, incarnation=incarnation)
        request = act.ReadProgress(ref=ref, log_pattern=pattern)
        try:
            reading = await call(act.READ_PROGRESS, request, summary=f"how far is replica {replica.index}?")
        except ActivityError as error:
            workflow.logger.warning("progress of replica %s: %s", replica.index, explain(error)[1])
            return
        if reading.progress is not None and replica.incarnation == incarnation:
            self._take_reading(replica, reading.progress)

    def _take_reading(self, replica: Replica, progress: float) -> None:
        """A training whose reported progress stands still is Stalled, and never a source."""
        now = workflow.now()
        if progress != replica.reading:
            replica.reading, replica.reading_at, replica.stalled = progress, now, False
            return
        patience = timedelta(seconds=self.pacing.choice().seconds / 2)
        if replica.reading_at and now - replica.reading_at >= patience and not replica.stalled:
            replica.stalled = True
            self.job.event("Stalled", f"replica {replica.index} reports no progress", warning=True)

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
        if not self.takes_images:
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

    def request(self, source: Replica, reason: str) -> Checkpoint:
        """Record a checkpoint of this replica and begin it; the one under way on it serves as well."""
        running = self.under_way_on(source)
        if running is not None:
            return running
        record = Checkpoint(
            number=self.state.checkpoint_number + 1,
            replica=source.index,
            incarnation=source.incarnation,
            node=source.node,
            reason=reason,
            requested_at=workflow.now(),
            lineage_seconds=lineage_seconds(source, workflow.now()),
            reading=source.reading,
            fingerprint=self._fingerprint(source),
        )
        return self.begin(record)

    def begin(self, record: Checkpoint) -> Checkpoint:
        """Begin a checkpoint that nobody has recorded yet."""
        self.state.checkpoint_number = record.number
        self.state.checkpoints[record.number] = record
        self.job.spawn(self.follow(record), f"checkpoint {record.number}")
        self.job.touch()
        return record

    def resume(self) -> None:
        """After continue-as-new: go on with those under way."""
        for record in self._under_way():
            self.job.spawn(self.follow(record), f"checkpoint {record.number}")

    def under_way_on(self, source: Replica) -> Checkpoint | None:
        """The checkpoint of this incarnation that has not ended yet."""
        mine = (source.index, source.incarnation)
        return next((one for one in self._under_way() if (one.replica, one.incarnation) == mine), None)

    def _under_way(self) -> list[Checkpoint]:
        return [record for record in self.state.checkpoints.values() if record.outcome is None]

    # --- one checkpoint

    def changed(self, version: int, view: CheckpointView) -> None:
        """A CheckpointBackup's projection from the bridge."""
        for record in self.state.checkpoints.values():
            if self.name(record) == view.name and version > record.version:
                record.version = version
                self._see(record, view)

    def name(self, record: Checkpoint) -> str:
        """Name of its CheckpointBackup."""
        return checkpoint_name(self.job.start.name, self.job.start.job_id, record.number)

    async def follow(self, record: Checkpoint) -> None:
        """From the request to a restore point or a reason why there is none."""
        try:
            if not record.created and not await self._create(record):
                return
            while record.outcome is None and not self.job.parking:
                await self._watch(record)
        except ActivityError as error:
            self._fail(record, explain(error)[1])

    async def _create(self, record: Checkpoint) -> bool:
        request = act.CreateCheckpoint(
            job=self.job.ref,
            number=record.number,
            replica=record.replica,
            incarnation=record.incarnation,
            config=self.job.spec.checkpoint_config,
            lineage_seconds=record.lineage_seconds,
            unix=int(record.requested_at.timestamp()),
        )
        view = await self._ask(record, request)
        if view is None:
            return False
        record.created = True
        record.phase_at = record.phase_at or workflow.now()
        if record.view is None:  # else the bridge was quicker, and what it told is newer
            self._see(record, view)
        source = self.state.replicas.get(record.replica)
        same = source is not None and source.live and source.incarnation == record.incarnation
        if source and same and view.reported and view.progress is not None:
            self._take_reading(source, view.progress)
        return record.outcome is None

    async def _ask(self, record: Checkpoint, request: act.CreateCheckpoint) -> CheckpointView | None:
        """Create the CheckpointBackup; None where the job parks while another one occupies the node."""
        summary = f"checkpoint {record.number} of replica {record.replica} · {record.reason}"
        timings = self.state.timings
        patience = timings.checkpoint_total if record.reason == "Scheduled" else timings.checkpoint_start
        while not self.job.parking:
            try:
                return await call(act.CREATE_CHECKPOINT, request, summary=summary, urgent=True)
            except ActivityError as error:
                waited = (workflow.now() - record.requested_at).total_seconds()
                if explain(error)[0] != errors.BUSY or waited >= patience or self.source_lost(record):
                    raise
                await self.job.until(lambda: self.source_lost(record), self.job.after(timings.retry), explain(error)[1])
        return None

    async def _watch(self, record: Checkpoint) -> None:
        """Wait for its end; before anything is concluded from silence, look once."""
        view = record.view
        if view is not None and view.ended:
            await self._conclude(record, view)
            return
        await self.job.until(
            lambda: (record.view is not None and record.view.ended) or self.source_lost(record),
            self._silent_until(record),
            f"checkpoint {record.number}: {(view.phase if view else None) or 'the operator takes it up'}",
        )
        if self.job.parking or (record.view is not None and record.view.ended):
            return
        try:
            seen = self._see(record, await self._observe(record))
        except ActivityError:
            if workflow.now() >= self._last_moment(record):
                raise
            # An API server that is away says nothing of the checkpoint.
            await self.job.until(lambda: False, self.job.after(self.state.timings.retry), "the API server")
            return
        if seen.ended:
            return
        if self.source_lost(record):
            self._fail(record, "its node went away before it was done")
        elif not seen.exists:
            self._fail(record, "the CheckpointBackup is gone")
        elif workflow.now() >= self._silent_until(record):
            self._fail(record, f"the checkpoint operator sticks in phase {seen.phase or '(none)'}")

    def _silent_until(self, record: Checkpoint) -> datetime:
        """Two deadlines: one to show a first phase, one to go on to the next; and one for all of it."""
        timings = self.state.timings
        started = record.view is not None and record.view.phase is not None
        step = timings.checkpoint_step if started else timings.checkpoint_start
        since = record.phase_at or record.requested_at
        return min(since + timedelta(seconds=step), self._last_moment(record))

    def _last_moment(self, record: Checkpoint) -> datetime:
        """The containers of a pod are dumped and pushed one after the other: each may take its time."""
        timings = self.state.timings
        longest = max(timings.checkpoint_total, timings.checkpoint_step * len(self.job.containers))
        last = record.requested_at + timedelta(seconds=longest)
        return min(last, record.ends_at or last)

    def source_lost(self, record: Checkpoint) -> bool:
        """The node is gone (a notice alone is not the end: the dump may be done before)."""
        node = self.state.nodes.get(record.node or "")
        vms = [vm for vm in self.state.vms.values() if vm.report and vm.report.node_name == record.node]
        return (node is not None and not node.exists) or any(vm.dead for vm in vms)

    async def _observe(self, record: Checkpoint) -> CheckpointView:
        ref = act.CheckpointRef(job=self.job.ref, number=record.number, containers=self.job.containers)
        return await call(act.OBSERVE_CHECKPOINT, ref, summary=f"look at checkpoint {record.number}")

    def _see(self, record: Checkpoint, view: CheckpointView) -> CheckpointView:
        """Take a view, and give the one that holds: an answer may be older than an end that the bridge told."""
        if record.view is not None and record.view.ended:
            return record.view
        if record.view is None or record.view.phase != view.phase:
            record.phase_at = workflow.now()
        record.view = view
        return view

    # --- its end

    async def _conclude(self, record: Checkpoint, view: CheckpointView) -> None:
        if not view.usable(self.job.containers):
            self._fail(record, f"{view.phase}: {view.message or 'not every container has a pushed image'}")
            return
        progress, reported = self._progress(record, view)
        point = RestorePoint(
            images=view.images,
            progress=progress,
            reported=reported,
            seconds=record.lineage_seconds,
            lineage=f"{record.replica}.{record.incarnation}",
            created_at=workflow.now(),
            fingerprint=record.fingerprint,
            checkpoint=record.number,
        )
        self._keep(record, await self._pinned(point))
        await self._pin_the_others()
        await self.retention.run()

    async def _pinned(self, point: RestorePoint) -> RestorePoint:
        """With its digests, where the registry gives them: one that is away must not cost a restore point."""
        spec = self.job.spec
        request = act.PinImages(
            job=self.job.ref,
            config=spec.checkpoint_config,
            point=point,
            cloud_credentials=spec.gcp_credentials_secret_ref,
        )
        try:
            return await call(act.PIN_IMAGES, request, summary=f"digest of checkpoint {point.checkpoint}")
        except ActivityError as error:
            workflow.logger.warning("digest of checkpoint %s: %s", point.checkpoint, explain(error)[1])
            return point

    async def _pin_the_others(self) -> None:
        """Those whose digests the registry did not give at their time."""
        for point in [one for one in self.state.points if not all("@" in image for image in one.images.values())]:
            pinned = await self._pinned(point)
            self.state.points = [pinned if one is point else one for one in self.state.points]

    def _progress(self, record: Checkpoint, view: CheckpointView) -> tuple[float, bool]:
        """What the image holds; at least what the training reported last, where its log could not be read in time."""
        source = self.state.replicas.get(record.replica)
        same = source is not None and source.incarnation == record.incarnation
        reading = source.reading if source and same and source.reading is not None else record.reading
        if not view.reported and reading is not None:
            return reading, True
        return (view.progress if view.progress is not None else record.lineage_seconds), view.reported

    def _keep(self, record: Checkpoint, point: RestorePoint) -> None:
        now, state = workflow.now(), self.state
        record.outcome, record.ended_at = "Usable", now
        seconds = (now - record.requested_at).total_seconds()
        state.recent_dumps = [*state.recent_dumps, seconds][-DUMPS_REMEMBERED:]
        state.ever_checkpointed = True
        self.retention.add(point)
        self.pacing.measured(seconds)
        source = state.replicas.get(record.replica)
        if source is not None:
            source.last_checkpoint_image, source.last_checkpoint_time = point.label, now
        self.job.event(
            "CheckpointCompleted",
            f"checkpoint {record.number} of replica {record.replica} ({record.reason}) at progress "
            f"{point.progress:.0f} in {state.last_dump_seconds:.1f} s: {point.label}",
        )
        if "CheckpointsProven" not in state.conditions:
            self.job.condition("CheckpointsProven", False, "NeverRestored", "no replica has started from an image yet")

    def _fingerprint(self, source: Replica) -> dict[str, str]:
        vm = self.state.vms.get(source.vm_key or "")
        return vm.report.fingerprint if vm and vm.report else {}

    def _fail(self, record: Checkpoint, message: str) -> None:
        record.outcome, record.message, record.ended_at = "Failed", message, workflow.now()
        self.job.event("CheckpointFailed", f"checkpoint {record.number}: {message}", warning=True)
        self.retention.give_up(record)
        self.on_failure(record)
        self.job.spawn(self.retention.run(), "retire checkpoints")

    def settled(self, recovery: Recovery) -> bool:
        """The checkpoint that this recovery waits for has ended, or there is none."""
        record = self.state.checkpoints.get(recovery.checkpoint or -1)
        return record is None or record.outcome is not None

    def failed(self, recovery: Recovery) -> bool:
        """It ended without an image."""
        record = self.state.checkpoints.get(recovery.checkpoint or -1)
        return record is not None and record.outcome == "Failed"
