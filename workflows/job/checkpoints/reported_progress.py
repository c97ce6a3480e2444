"""The progress that each training reports, read in advance because a notice leaves no time for it."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.checkpoints.schedule import Schedule
from workflows.job.core.job import Job
from workflows.job.state.replica import MemberReading, Replica


class ReportedProgress:
    """Reads the progress that the trainings of one job report."""

    def __init__(self, job: Job, schedule: Schedule) -> None:
        self.job = job
        self.state = job.state
        self.schedule = schedule

    async def read_all(self) -> None:
        """Read the progress of each running training, before the furthest is chosen."""
        if not self.is_reported:
            return
        running = [replica for replica in self.state.replicas.values() if replica.phase == "Running"]
        if patched("one-look"):
            await self._read_at_once(running)
        else:
            await asyncio.gather(*(self.read(replica) for replica in running))

    async def _read_at_once(self, running: list[Replica]) -> None:
        if not running:
            return
        request = act.LookAtReplicas(
            job=self.job.ref,
            replicas=[(replica.index, replica.incarnation) for replica in running],
            log_pattern=self.log_pattern,
        )
        try:
            self.take_all(request, await call(act.LOOK_AT_REPLICAS, request, summary="how far are the replicas?"))
        except ActivityError as error:
            workflow.logger.warning("progress of the replicas: %s", explain(error)[1])

    def take_all(self, request: act.LookAtReplicas, found: act.SeenReplicas) -> None:
        """Record the progress that was read of several replicas, unless they have other incarnations by now."""
        for (index, incarnation), answer in zip(request.replicas, found.readings, strict=False):
            replica = self.state.replicas.get(index)
            if replica is not None and replica.incarnation == incarnation:
                self._hear(replica, answer)

    @property
    def is_reported(self) -> bool:
        """True if the trainings report their progress."""
        return self.job.spec.checkpoint_config.progress is not None

    @property
    def log_pattern(self) -> str | None:
        """Return the pattern of the progress in a log; None if the trainings report none."""
        pattern = self.job.spec.checkpoint_config.progress
        return pattern.log_pattern if pattern is not None else None

    async def read(self, replica: Replica) -> None:
        """Read the progress of one training and record it."""
        incarnation = replica.incarnation
        answer = await self._ask(replica)
        if answer is not None and replica.incarnation == incarnation:
            self._hear(replica, answer)

    def _hear(self, replica: Replica, answer: act.ProgressReading) -> None:
        if answer.readable:
            replica.run.heard_at = workflow.now()
        for member, progress in answer.members.items():
            known, now = replica.run.readings.get(member), workflow.now()
            replica.run.readings[member] = (
                known.next(progress, now) if known else MemberReading(progress=progress, at=now)
            )
        if answer.progress is not None:
            self.take(replica, answer.progress)

    async def last(self, replica: Replica) -> float | None:
        """Read the last progress of a training, even of one that has ended; None if unknown."""
        answer = await self._ask(replica)
        return answer.progress if answer else None

    async def _ask(self, replica: Replica) -> act.ProgressReading | None:
        """Read the end of its log; None if that cannot be read now."""
        pattern = self.job.spec.checkpoint_config.progress
        if pattern is None:
            return None
        ref = act.ReplicaRef(job=self.job.ref, replica=replica.index, incarnation=replica.incarnation)
        request = act.ReadProgress(ref=ref, log_pattern=pattern.log_pattern)
        try:
            return await call(act.READ_PROGRESS, request, summary=f"how far is replica {replica.index}?")
        except ActivityError as error:
            workflow.logger.warning("progress of replica %s: %s", replica.index, explain(error)[1])
            return None

    def take(self, replica: Replica, progress: float) -> None:
        """Record a training's progress. One that makes none for half an interval is Stalled, and never a source."""
        now = workflow.now()
        if replica.run.first_reading is None:
            replica.run.first_reading = progress
        if progress != replica.run.reading:
            replica.run.reading, replica.run.reading_at, replica.run.stalled = progress, now, False
            return
        patience = timedelta(seconds=self.schedule.choice().seconds / 2)
        if replica.run.reading_at and now - replica.run.reading_at >= patience and not replica.run.stalled:
            replica.run.stalled = True
            self.job.event(events.STALLED, f"replica {replica.index} reports no progress", warning=True)
