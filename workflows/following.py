"""One checkpoint from the request to its end: a restore point, or a reason why there is none."""

from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors
    from api.names import checkpoint_name
    from api.views import CheckpointView, RestorePoint
    from workflows.policy.ending import told_to_end

from workflows.calls import call, explain
from workflows.job import Job
from workflows.pacing import Pacing
from workflows.readings import Readings
from workflows.retention import Retention
from workflows.state import Checkpoint

DUMPS_REMEMBERED = 3
SUCCEED = "CheckpointsSucceed"
KILLS = "CheckpointKillsTraining"


class Following:
    """What becomes of each CheckpointBackup of one job. ``on_failure`` is told of those that failed."""

    def __init__(self, job: Job, pacing: Pacing) -> None:
        self.job = job
        self.state = job.state
        self.pacing = pacing
        self.readings = Readings(job, pacing)
        self.retention = Retention(job)
        self.on_failure: Callable[[Checkpoint], None] = lambda record: None

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
        if source and same and not record.by_seconds and view.reported and view.progress is not None:
            self.readings.take(source, view.progress)
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
            told_to_end=told_to_end(record, self.state, workflow.now()),
        )
        self._keep(record, point)  # at once: a replica that is lost now is to be restored from it
        await self._pin()
        await self.retention.run()

    async def _pin(self) -> None:
        """The newest first; and those whose digests the registry did not give at their time."""
        for point in [one for one in reversed(self.state.points) if not one.pinned]:
            pinned = await self._pinned(point)
            self.state.points = [pinned if one is point else one for one in self.state.points]
            for replica in self.state.replicas.values():
                if replica.last_checkpoint_image == point.label:
                    replica.last_checkpoint_image = pinned.label

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

    def _progress(self, record: Checkpoint, view: CheckpointView) -> tuple[float, bool]:
        """What the image holds; at least what the training reported last, where its log could not be read in time."""
        if record.by_seconds:
            return record.lineage_seconds, False
        source = self.state.replicas.get(record.replica)
        same = source is not None and source.incarnation == record.incarnation
        reading = source.reading if source and same and source.reading is not None else record.reading
        if not view.reported and reading is not None:
            return reading, True
        return (view.progress if view.progress is not None else record.lineage_seconds), view.reported

    def _keep(self, record: Checkpoint, point: RestorePoint) -> None:
        now, state = workflow.now(), self.state
        record.outcome = "Usable"
        self._note_end(record)
        seconds = (now - record.requested_at).total_seconds()
        state.recent_dumps = [*state.recent_dumps, seconds][-DUMPS_REMEMBERED:]
        state.ever_checkpointed = True
        self.retention.add(point)
        self.pacing.succeeded(record.number)
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
        if SUCCEED in state.conditions and not self.pacing.paused:
            self.job.condition(SUCCEED, True, "Completed")

    def _fail(self, record: Checkpoint, message: str) -> None:
        record.outcome, record.message = "Failed", message
        self._note_end(record)
        self.job.event("CheckpointFailed", f"checkpoint {record.number}: {message}", warning=True)
        if not self.source_lost(record) and not self.pacing.paused:
            self.job.condition(SUCCEED, False, "CheckpointFailed", f"checkpoint {record.number}: {message}")
        self.retention.give_up(record)
        self.on_failure(record)
        self.job.spawn(self.retention.run(), "retire checkpoints")

    def _note_end(self, record: Checkpoint) -> None:
        source = self.state.replicas.get(record.replica)
        if source is not None and source.dump is not None and source.dump.number == record.number:
            source.dump.ended_at, source.dump.usable = workflow.now(), record.outcome == "Usable"
