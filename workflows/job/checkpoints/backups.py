"""Each checkpoint from its request to its end, which is a restore point or a reason why there is none."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, errors, events, metrics, reasons
    from api.names import checkpoint_name
    from api.views import CheckpointView, RestorePoint
    from workflows.job.checkpoints.policy.ending import told_to_end
    from workflows.job.checkpoints.policy.progress import training_time
    from workflows.job.checkpoints.policy.rescue import is_worth_retrying
    from workflows.job.checkpoints.policy.source import source_lost, under_way, under_way_on
    from workflows.job.policy.requests import saved

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.checkpoints.reported_progress import ReportedProgress
from workflows.job.checkpoints.retention import Retention
from workflows.job.checkpoints.schedule import Schedule
from workflows.job.core.job import Job
from workflows.job.state.checkpoint import Checkpoint, Source
from workflows.job.state.replica import Dump, Replica

FREEZES = "Checkpointing"
"""The phase of a CheckpointBackup in which a dump freezes the training."""

DUMPS_REMEMBERED = 3
"""How many durations of the last checkpoints are kept."""


class Backups:
    """Requests the CheckpointBackups of one job and watches them."""

    def __init__(self, job: Job, schedule: Schedule) -> None:
        self.job = job
        self.state = job.state
        self.schedule = schedule
        self.reported_progress = ReportedProgress(job, schedule)
        self.retention = Retention(job)

    def changed(self, version: int, view: CheckpointView) -> None:
        """Take in a version of a CheckpointBackup from the bridge."""
        for record in self.state.checkpoints.values():
            if self.name(record) == view.name and version > record.version:
                record.version = version
                self._see(record, view)

    def name(self, record: Checkpoint) -> str:
        """Return the name of a checkpoint's CheckpointBackup."""
        return checkpoint_name(self.job.start.name, self.job.start.job_id, record.number)

    # --- requests

    def request(self, replica: Replica, reason: str) -> Checkpoint:
        """Begin a checkpoint of this replica, or return the one that is under way."""
        running = under_way_on(self.state, replica)
        if running is not None:
            return running
        source = Source(
            replica=replica.index,
            incarnation=replica.incarnation,
            node=replica.place.only.node,
            lineage_seconds=training_time(replica, workflow.now()),
            reading=replica.run.reading,
            fingerprint=self.state.fingerprint_under(replica),
        )
        return self.begin(source, reason)

    def begin(self, source: Source, reason: str, *, ends_at: datetime | None = None) -> Checkpoint:
        """Record a checkpoint and begin it. ``ends_at`` is when its machine is gone, if a notice says so."""
        record = Checkpoint(
            **{name: getattr(source, name) for name in Source.model_fields},
            number=self.state.checkpoint_number + 1,
            reason=reason,
            requested_at=workflow.now(),
            ends_at=ends_at,
        )
        self.state.checkpoint_number = record.number
        self.state.checkpoints[record.number] = record
        self._note_begin(record)
        if record.urgent:
            self.job.begin_urgent(self.name(record))
        self.job.spawn(self.follow(record), f"checkpoint {record.number}")
        self.job.touch()
        return record

    def again(self, one: Checkpoint, reason: str) -> Checkpoint:
        """Begin another checkpoint of the same incarnation, of which only the record of the first is known by now."""
        trained = one.lineage_seconds + (workflow.now() - one.requested_at).total_seconds()
        return self.begin(one.model_copy(update={"lineage_seconds": trained}), reason, ends_at=one.ends_at)

    def _note_begin(self, record: Checkpoint) -> None:
        """Note that the checkpoint may kill its source. That it is made shows that the one before did not."""
        replica = self.state.replicas.get(record.replica)
        if replica is None or not replica.run.live or replica.incarnation != record.incarnation:
            return
        dump = replica.run.dump
        if dump and dump.incarnation == record.incarnation and dump.usable:
            self.state.kills = 0
        replica.run.dump = Dump(number=record.number, incarnation=record.incarnation, requested_at=record.requested_at)

    def _retry_rescue(self, failed: Checkpoint) -> None:
        """Repeat a rescue that failed at once, if there is still time."""
        recoveries = [replica.recovery for replica in self.state.replicas.values() if replica.recovery]
        waiting = [recovery for recovery in recoveries if recovery.own == failed.number]
        if not waiting or not is_worth_retrying(self.state, failed, workflow.now()):
            return
        again = self.again(failed, "NoticeAgain")
        for recovery in waiting:
            recovery.own = again.number

    # --- progress

    def resume(self) -> None:
        """Follow the checkpoints that are under way, at the start of a run.

        One that ended while the last run waited for its end counts before any replica chooses what it starts from.
        """
        for record in under_way(self.state):
            if record.view is None or not record.view.ended or not patched("ended-between-runs"):
                self.job.spawn(self.follow(record), f"checkpoint {record.number}")
            elif self._settle(record, record.view):
                self.job.spawn(self._tidy(), f"checkpoint {record.number}")

    async def follow(self, record: Checkpoint) -> None:
        """Create the CheckpointBackup and watch it to its end."""
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
        view = await self._create_backup(record, request)
        if view is None:
            return False
        record.created = True
        record.phase_at = record.phase_at or workflow.now()
        if record.view is None:  # otherwise the bridge was quicker, and its view is newer
            self._see(record, view)
        source = self.state.replicas.get(record.replica)
        same = source is not None and source.run.live and source.incarnation == record.incarnation
        if source and same and not record.by_seconds and view.reported and view.progress is not None:
            self.reported_progress.take(source, view.progress)
        return record.outcome is None

    async def _create_backup(self, record: Checkpoint, request: act.CreateCheckpoint) -> CheckpointView | None:
        """Create the CheckpointBackup, once no other one occupies the node; None if the run ends before that."""
        timings = self.state.timings
        patience = timings.checkpoint_start if record.urgent else timings.checkpoint_total
        while not self.job.parking:
            try:
                return await self._ask_for(record, request)
            except ActivityError as error:
                waited = (workflow.now() - record.requested_at).total_seconds()
                if explain(error)[0] != errors.BUSY or waited >= patience or source_lost(self.state, record):
                    raise
                await self.job.until(
                    lambda: source_lost(self.state, record), self.job.after(timings.retry), explain(error)[1]
                )
        return None

    async def _ask_for(self, record: Checkpoint, request: act.CreateCheckpoint) -> CheckpointView:
        summary = f"checkpoint {record.number} of replica {record.replica} · {record.reason}"
        pause = 0.0
        try:
            made = await call(act.CREATE_CHECKPOINT, request, summary=summary, urgent=True, ahead=record.urgent)
            pause = made.others_wait
            return made.view
        finally:
            self.job.end_urgent(self.name(record), pause)

    async def _watch(self, record: Checkpoint) -> None:
        """Wait for a checkpoint's end. Its object is read before anything is concluded from silence."""
        view = record.view
        if view is not None and view.ended:
            await self._conclude(record, view)
            return
        awaited, until = self._is_awaited(record), self._silent_until(record)
        before = view.phase if view is not None else None
        await self.job.until(
            lambda: (
                (record.view is not None and record.view.ended)
                or source_lost(self.state, record)
                or self._is_awaited(record) != awaited
            ),
            until,
            f"checkpoint {record.number}: {(view.phase if view else None) or 'waiting for the operator'}",
        )
        if self.job.parking or (record.view is not None and record.view.ended):
            return
        if workflow.now() < until and not source_lost(self.state, record):
            return  # somebody waits for it now, or nobody does any more
        try:
            seen = self._see(record, await self._observe(record))
        except ActivityError:
            if workflow.now() >= self._last_moment(record):
                raise
            # An unreachable API server says nothing about the checkpoint.
            await self.job.until(lambda: False, self.job.after(self.state.timings.retry), "the next read of it")
            return
        if seen.ended:
            return
        if source_lost(self.state, record):
            self._fail(record, "its node was lost before it was done")
        elif not seen.exists:
            self._fail(record, "the CheckpointBackup is gone")
        elif workflow.now() >= (until if seen.phase == before else self._silent_until(record)):
            self._fail(record, f"the checkpoint operator is stuck in phase {seen.phase or '(none)'}")

    def _silent_until(self, record: Checkpoint) -> datetime:
        """Return until when the operator may show no change.

        There is a deadline for its first phase, one for each later phase, and one for the whole checkpoint.
        """
        timings = self.state.timings
        started = record.view is not None and record.view.phase is not None
        if not started and not self._is_awaited(record):
            return self._next_due(record)
        step = timings.checkpoint_step if started else timings.checkpoint_start
        since = record.phase_at or record.requested_at
        return min(since + timedelta(seconds=step), self._last_moment(record))

    def _next_due(self, record: Checkpoint) -> datetime:
        """Return when to read a scheduled checkpoint first: with the next one, for which there is a timer anyway."""
        latest = record.requested_at + timedelta(seconds=self.state.timings.checkpoint_step)
        due = self.state.next_checkpoint_at
        return min(latest, due if due is not None and due > record.requested_at else latest)

    def _is_awaited(self, record: Checkpoint) -> bool:
        """True if somebody waits for a checkpoint. A scheduled one may take its time, which saves a timer for each."""
        if record.urgent or not patched("patient-schedule"):
            return True
        return record.number in self.retention.awaited()

    def _last_moment(self, record: Checkpoint) -> datetime:
        """Return the deadline of the whole checkpoint.

        The containers of a pod are dumped and pushed one after the other, so each adds to it.
        """
        timings = self.state.timings
        longest = max(timings.checkpoint_total, timings.checkpoint_step * len(self.job.containers))
        last = record.requested_at + timedelta(seconds=longest)
        return min(last, record.ends_at or last)

    async def _observe(self, record: Checkpoint) -> CheckpointView:
        ref = act.CheckpointRef(job=self.job.ref, number=record.number, containers=self.job.containers)
        return await call(act.OBSERVE_CHECKPOINT, ref, summary=f"read checkpoint {record.number}")

    def _see(self, record: Checkpoint, view: CheckpointView) -> CheckpointView:
        """Take in a view and return the one that counts: an answer may be older than an end reported by the bridge."""
        if record.view is not None and record.view.ended:
            return record.view
        before = record.view.phase if record.view is not None else None
        if record.view is None or before != view.phase:
            if before == FREEZES and record.phase_at is not None:
                self.state.ledger.frozen_seconds += (workflow.now() - record.phase_at).total_seconds()
            record.phase_at = workflow.now()
        record.view = view
        return view

    # --- its end

    async def _conclude(self, record: Checkpoint, view: CheckpointView) -> None:
        if self._settle(record, view):
            await self._tidy()

    def _settle(self, record: Checkpoint, view: CheckpointView) -> bool:
        """Count a checkpoint that has ended; True if it made a restore point."""
        if not view.usable(self.job.containers):
            self._fail(record, f"{view.phase}: {view.message or 'not every container has a pushed image'}")
            return False
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
        self._keep(record, point)  # at once, so that a replica that is lost now is restored from it
        return True

    async def _tidy(self) -> None:
        if not patched("one-tidy"):  # Retention pins as well
            await self._pin()
        await self.retention.run()

    async def _pin(self) -> None:
        """Pin all images whose digests are not known yet, the newest first."""
        for point in [one for one in reversed(self.state.points) if not one.pinned]:
            pinned = await self._pinned(point)
            self.state.points = [pinned if one is point else one for one in self.state.points]
            for replica in self.state.replicas.values():
                if replica.last_checkpoint_image == point.label:
                    replica.last_checkpoint_image = pinned.label

    async def _pinned(self, point: RestorePoint) -> RestorePoint:
        """Return the restore point with its digests, or unchanged if the registry does not answer."""
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
        """Return the progress in the image, and whether it is reported progress.

        If the log could not be read in time, it is the progress that the training had last reported.
        """
        if record.by_seconds:
            return record.lineage_seconds, False
        source = self.state.replicas.get(record.replica)
        same = source is not None and source.incarnation == record.incarnation
        reading = source.run.reading if source and same and source.run.reading is not None else record.reading
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
        self.schedule.succeeded(record.number)
        self.schedule.measured(seconds)
        source = state.replicas.get(record.replica)
        if source is not None:
            source.last_checkpoint_image, source.last_checkpoint_time = point.label, now
        self.job.event(
            events.CHECKPOINT_COMPLETED,
            f"checkpoint {record.number} of replica {record.replica} ({record.reason}) at progress "
            f"{point.progress:.0f} in {state.last_dump_seconds:.1f} s: {point.label}",
        )
        state.requests.checkpoint_ended(record.number, done=saved(record, state))
        if conditions.CHECKPOINTS_PROVEN not in state.conditions:
            self.job.condition(
                conditions.CHECKPOINTS_PROVEN,
                False,
                reasons.NEVER_RESTORED,
                "no replica was restored from an image yet",
            )
        if conditions.CHECKPOINTS_SUCCEED in state.conditions and not self.schedule.paused:
            self.job.condition(conditions.CHECKPOINTS_SUCCEED, True, reasons.CHECKPOINT_COMPLETED)

    def _fail(self, record: Checkpoint, message: str) -> None:
        record.outcome, record.message = "Failed", message
        self._note_end(record)
        self.job.event(events.CHECKPOINT_FAILED, f"checkpoint {record.number}: {message}", warning=True)
        self.state.requests.checkpoint_ended(record.number, failed=f"checkpoint {record.number} failed: {message}")
        if not source_lost(self.state, record) and not self.schedule.paused:
            self.job.condition(
                conditions.CHECKPOINTS_SUCCEED,
                False,
                reasons.CHECKPOINT_FAILED,
                f"checkpoint {record.number}: {message}",
            )
        self.retention.give_up(record)
        self._retry_rescue(record)
        self.job.spawn(self.retention.run(), "retention")

    def _note_end(self, record: Checkpoint) -> None:
        seconds = (workflow.now() - record.requested_at).total_seconds()
        self.job.measure(metrics.CHECKPOINT, seconds, outcome=record.outcome or "Failed", reason=record.reason)
        self._measure_rescue(record)
        source = self.state.replicas.get(record.replica)
        if source is not None and source.run.dump is not None and source.run.dump.number == record.number:
            source.run.dump.ended_at, source.run.dump.usable = workflow.now(), record.outcome == "Usable"

    def _measure_rescue(self, record: Checkpoint) -> None:
        """Measure how soon after the notice a replica that lost its machine was saved, itself or by a survivor."""
        recoveries = [replica.recovery for replica in self.state.replicas.values() if replica.recovery]
        for recovery in recoveries:
            if record.outcome != "Usable" or record.number not in (recovery.own, recovery.checkpoint):
                continue
            nodes = {node for old in recovery.olds for node in old.nodes}
            notices = [notice.at for node, notice in self.state.notices.items() if node in nodes]
            if notices:
                source = "dying" if record.number == recovery.own else "survivor"
                seconds = (workflow.now() - min(notices)).total_seconds()
                self.job.measure(metrics.NOTICE_TO_CHECKPOINT, seconds, source=source)
