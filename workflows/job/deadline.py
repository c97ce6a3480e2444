"""The clock of ``activeDeadlineSeconds``, which ends the job. It runs from the first start, but not while suspended."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import reasons
    from workflows.job.policy.deadline import deadline_seconds, exceeded

from workflows.common.patches import patched
from workflows.job.core.job import Job


class Deadline:
    """Counts the time of one job, also while no worker runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.clock = job.state.clock

    async def run(self) -> None:
        """Count until the job ends or its time is up."""
        await workflow.wait_condition(lambda: self.job.closing or self._first_start() is not None)
        if self.job.closing or (limit := deadline_seconds(self.job.spec)) is None:
            return
        if not patched("active-deadline"):
            return  # the next run counts
        while not self.job.closing:
            await workflow.wait_condition(lambda: not self.job.state.suspended or self.job.closing)
            self._start()
            is_up = not await self.job.until(
                lambda: self.job.state.suspended or self.job.closing, self._ends_at(limit), "activeDeadlineSeconds"
            )
            if is_up:
                await self._time_is_up(limit)
                return
            if self.job.state.suspended:
                self._stop()

    def _first_start(self) -> datetime | None:
        """Return when the first replica first ran; None if none has run yet."""
        if self.clock.begun:
            return self.clock.since or workflow.now()
        starts = [each.run.running_since for each in self.job.state.replicas.values() if not each.proof]
        return min((start for start in starts if start is not None), default=None)

    def _start(self) -> None:
        if self.clock.since is None and not self.job.closing:
            self.clock.since = workflow.now() if self.clock.begun else self._first_start()
            self.clock.begun = True

    def _stop(self) -> None:
        if self.clock.since is not None:
            self.clock.seconds += (workflow.now() - self.clock.since).total_seconds()
            self.clock.since = None

    def _ends_at(self, limit: float) -> datetime:
        return (self.clock.since or workflow.now()) + timedelta(seconds=limit - self.clock.seconds)

    async def _time_is_up(self, limit: float) -> None:
        """Fail the job. If the end of a training came in time and is still being judged, it counts first."""
        await self.job.until(
            lambda: self.job.closing or not any(each.phase == "Judging" for each in self.job.state.replicas.values()),
            self.job.after(2 * self.job.state.timings.verdict_delay),
            "activeDeadlineSeconds has passed: the verdict on a training that ended before",
        )
        if not self.job.closing:
            self.job.fail(reasons.DEADLINE_EXCEEDED, exceeded(limit))
