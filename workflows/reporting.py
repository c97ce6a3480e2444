"""The one writer of the CR's status and Events: a coroutine, one write in flight, a dirty flag."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.spot_instance_job import SpotInstanceJobStatus
    from workflows.policy.status import job_status, summary

from workflows.calls import call, explain
from workflows.job import Job
from workflows.state import Outbound


class Reporting:
    """Tells people how the job is."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._written: SpotInstanceJobStatus | None = None

    async def run(self) -> None:
        """Write whenever something has changed, until the job parks; the end is flushed by ``flush``."""
        while not self.job.parking:
            await workflow.wait_condition(lambda: self.job.dirty or self.job.parking)
            if self.job.dirty and not await self.flush():
                await self.job.until(lambda: False, self.job.after(self.job.state.timings.retry), "the API server")

    async def flush(self) -> bool:
        """Write everything now; False where the API server did not take it."""
        self.job.dirty = False
        start, state = self.job.start, self.job.state
        workflow.set_current_details(summary(start, state, workflow.now()))
        try:
            while state.events:
                await self._emit(state.events[0])
            status = job_status(start, state, workflow.now())
            if status != self._written:
                await call(
                    act.WRITE_STATUS, act.WriteStatus(job=self.job.ref, status=status), summary="write the status"
                )
                self._written = status
        except ActivityError as error:
            workflow.logger.warning("status: %s", explain(error)[1])
            self.job.dirty = True
            return False
        return True

    async def _emit(self, event: Outbound) -> None:
        request = act.Emit(job=self.job.ref, type=event.type, reason=event.reason, message=event.message, at=event.at)
        try:
            await call(act.EMIT, request, summary=f"Event {event.reason}")
        except ActivityError as error:
            if explain(error)[0] == "Transient":
                raise
            # Refused for good: a namespace that is being deleted takes no new objects.
            workflow.logger.warning("Event %s: %s", event.reason, explain(error)[1])
        if event in self.job.state.events:
            self.job.state.events.remove(event)
