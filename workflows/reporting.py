"""The one writer of the CR's status and Events: a coroutine, one write in flight, a dirty flag."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.spot_instance_job import SpotInstanceJobStatus
    from workflows.policy.backoff import back_off
    from workflows.policy.status import job_status, summary

from workflows.calls import call, explain
from workflows.job import Job

LONGEST_PAUSE = 6.0
"""Between two tries, in times the first pause: a status may be a minute late after an outage, not five."""


class Reporting:
    """Tells people how the job is."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._written: SpotInstanceJobStatus | None = None

    async def run(self) -> None:
        """Write whenever something has changed, until the job parks; the end is flushed by ``flush``."""
        failures = 0
        while not self.job.parking:
            await workflow.wait_condition(lambda: self.job.dirty or self.job.parking)
            if not self.job.dirty:
                continue
            failures = 0 if await self.flush() else failures + 1
            if failures:
                pause = back_off(failures, self.job.state.timings.retry, ceiling=LONGEST_PAUSE)
                await self.job.until(lambda: False, workflow.now() + pause, "the API server")

    async def flush(self) -> bool:
        """Write everything now; False where the API server did not take it."""
        self.job.dirty = False
        start, state = self.job.start, self.job.state
        workflow.set_current_details(summary(start, state, workflow.now()))
        try:
            while True:
                await self._report(job_status(start, state, workflow.now()))
                if not state.events:
                    return True
        except ActivityError as error:
            workflow.logger.warning("status: %s", explain(error)[1])
            self.job.dirty = True
            return False

    async def _report(self, status: SpotInstanceJobStatus) -> None:
        """The Events that are known by now, and the status where it is another."""
        events, fresh = list(self.job.state.events), status != self._written
        if not events and not fresh:
            return
        request = act.Report(job=self.job.ref, events=events, status=status if fresh else None)
        told = ", ".join(event.reason for event in events)
        try:
            await call(act.REPORT, request, summary=f"Events {told}" if told else "write the status")
        except ActivityError as error:
            if explain(error)[0] != "Transient":
                # Refused for good, which must not hold back all that follows.
                self._forget(events)
            raise
        self._forget(events)
        self._written = status

    def _forget(self, events: list[act.JobEvent]) -> None:
        self.job.state.events = [event for event in self.job.state.events if event not in events]
