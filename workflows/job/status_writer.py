"""The only writer of a job's status and Events: one coroutine, with one write at a time and a dirty flag."""

from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, errors
    from api.overview import CHECKS
    from api.spot_instance_job import SpotInstanceJobStatus
    from workflows.job.policy import status_writes as policy
    from workflows.job.policy.card import card
    from workflows.job.policy.status import job_status
    from workflows.policy.backoff import USUAL, back_off

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.visibility import publish

LONGEST_PAUSE = 6.0
"""The longest pause as a multiple of the first: after an outage a status may be a minute late, not five …"""
MANY = 60
"""… unless the outage was longer than an hour: so many tries have failed by then."""


class StatusWriter:
    """Writes the status and the Events of one job."""

    def __init__(self, job: Job, is_pinning: Callable[[], bool]) -> None:
        self.job, self.state = job, job.state
        self._is_pinning = is_pinning
        self._written: SpotInstanceJobStatus | None = None
        self._written_at: datetime | None = None
        self._failed_joins: frozenset[tuple[str, str]] = frozenset()  # as they were when it was written

    async def run(self) -> None:
        """Write whenever something has changed, until the run ends. The last write is a call of ``flush``."""
        failures = 0
        self._show()  # at once, because a run that continues another one has no card yet
        while not self.job.parking:
            await workflow.wait_condition(lambda: self.job.dirty or self.job.parking)
            if not self.job.dirty:
                continue
            if patched("quiet-status"):
                await self._pass_quiet_time()
                # The supervisor judges first what has changed: a status says all of it, and what is urgent goes ahead.
                await workflow.wait_condition(lambda: not self.job.changed or self.job.parking)
            await self.job.after_urgent()
            failures = 0 if await self.flush() else failures + 1
            if failures:
                ceiling = LONGEST_PAUSE if failures < MANY else USUAL
                pause = back_off(failures, self.job.state.timings.retry, ceiling=ceiling)
                await self.job.until(lambda: False, workflow.now() + pause, "the next write of the status")

    async def _pass_quiet_time(self) -> None:
        """Wait a while after the last write, so that a burst of changes makes one write. What is urgent goes ahead."""
        if patched("first-status"):
            await workflow.wait_condition(lambda: not self._is_unchecked() or self.job.parking)
        if not self._is_urgent() and self.job.state.admitted:  # an image soon has its digest: that is one write
            await workflow.wait_condition(lambda: not self._is_pinning() or self._is_urgent() or self.job.parking)
        if policy.is_quiet(self._written_at, workflow.now()) and self._is_news(self._status()):
            at = self.job.next_check(policy.QUIET.total_seconds())  # a moment for all changes, which is one timer
            await self.job.until(self._is_urgent, at, "the next write of the status")

    def _is_unchecked(self) -> bool:
        """True until the checks before the acceptance are answered, which takes a second, and a minute at most."""
        told = self.state.conditions
        refused = conditions.ACCEPTED in told and told[conditions.ACCEPTED].status != "True"
        return not (refused or self.state.admitted or self.job.ending or any(kind in told for kind in CHECKS))

    def _status(self) -> SpotInstanceJobStatus:
        return job_status(self.job.start, self.job.state, workflow.now(), with_past=patched("cost"))

    def _is_news(self, status: SpotInstanceJobStatus) -> bool:
        """True if there is something to write. Progress alone is written with the next news, or twice a resync."""
        if self.job.state.events or self._written is None or self._written_at is None:
            return True
        rested = workflow.now() >= self._written_at + timedelta(seconds=self.job.state.timings.resync) / 2
        if rested or not patched("quiet-status"):
            return status != self._written
        return not policy.is_progress_alone(self._written, status)

    def _is_urgent(self) -> bool:
        if not policy.failed_joins(self.job.state) <= self._failed_joins:
            return True
        return self.job.ending or policy.is_urgent(self._written, self.job.state)

    async def flush(self) -> bool:
        """Write everything now. True if the API server accepted it."""
        self.job.dirty = False
        state = self.job.state
        self._show()
        publish(self.job)
        try:
            while True:
                failed_joins = policy.failed_joins(state)
                await self._report(self._status())
                self._failed_joins = failed_joins
                if not state.events:
                    return True
        except ActivityError as error:
            workflow.logger.warning("status: %s", explain(error)[1])
            self.job.dirty = True
            return False

    def _show(self) -> None:
        workflow.set_current_details(card(self.job.start, self.job.state, workflow.now()))

    async def _report(self, status: SpotInstanceJobStatus) -> None:
        """Write the Events that are due, and the status if it has changed."""
        events, fresh = list(self.job.state.events), status != self._written
        if not self._is_news(status):
            return
        request = act.Report(job=self.job.ref, events=events, status=status if fresh else None)
        reasons = ", ".join(event.reason for event in events)
        try:
            await call(act.REPORT, request, summary=f"Events {reasons}" if reasons else "write the status")
        except ActivityError as error:
            if explain(error)[0] != errors.TRANSIENT:
                # Events that are refused for good must not block those that follow.
                self._forget(events)
            raise
        self._forget(events)
        self._written, self._written_at = status, workflow.now()

    def _forget(self, events: list[act.JobEvent]) -> None:
        self.job.state.events = [event for event in self.job.state.events if event not in events]
