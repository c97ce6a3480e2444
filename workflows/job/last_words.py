"""What people find after a job's end: its shortened logs, its report in the bucket, its last status."""

import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, errors, events, reasons
    from api.spot_instance_job import CheckpointStorage
    from workflows.job.policy.cost import cost_record
    from workflows.job.policy.report import job_report
    from workflows.policy.backoff import back_off

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.core.logs import Logs
from workflows.job.status_writer import StatusWriter

PATIENCE_SECONDS = 3600.0
"""How long the last status is retried. A shorter outage of the API server does not hide how a job ended."""

ATTEMPTS = 10
"""How often each step is attempted at least. After that the objects go all the same."""


class LastWords:
    """Takes the steps between a job's teardown and the release of its objects."""

    def __init__(self, job: Job, status_writer: StatusWriter) -> None:
        self.job = job
        self.state = job.state
        self.status_writer = status_writer

    async def say(self) -> None:
        """Take each step and retry it a few times, the last status for an hour."""
        if patched("logs-shortened"):
            await self._attempt(self._shorten_logs)
            if (storage := self._bucket()) is not None:
                await self._attempt(lambda: self._write_report(storage))
        if patched("cost") and self.state.admitted:
            await self._attempt(self._record_cost)
        # Nobody reads the status of a deleted job.
        await self._attempt(self.status_writer.flush, seconds=0 if self.state.shutdown else PATIENCE_SECONDS)

    async def _attempt(self, step: Callable[[], Awaitable[bool]], *, seconds: float = 0) -> None:
        deadline = self.job.after(seconds)
        for attempt in itertools.count(1):
            if await step():
                return
            if attempt >= ATTEMPTS and (workflow.now() >= deadline or not patched("patient-last-words")):
                return
            retry = self.state.timings.retry
            pause = timedelta(seconds=retry) if attempt <= ATTEMPTS else back_off(attempt - ATTEMPTS, retry)
            await workflow.sleep(pause)

    async def _shorten_logs(self) -> bool:
        try:
            await Logs(self.job).shorten()
        except ActivityError as error:
            reason, message = explain(error)
            workflow.logger.warning("logs: %s", message)
            return reason != errors.TRANSIENT
        return True

    def _bucket(self) -> CheckpointStorage | None:
        """Return the bucket of the report; None if there is none, or if an earlier run may have written a fuller one.

        A run that was never accepted knows only what there was to tear down.
        """
        spec = self.state.spec
        return spec.checkpoint_config.checkpoint_storage if spec is not None and self.state.admitted else None

    async def _record_cost(self) -> bool:
        """Keep what the job has cost. A run that was never accepted knows nothing of that."""
        record = cost_record(self.job.start, self.state, workflow.now())
        if record is None:
            return True
        request = act.RecordCost(namespace=self.job.start.namespace, record=record)
        try:
            await call(act.RECORD_COST, request, summary=f"keep the cost: ${record.usd:.2f}")
        except ActivityError as error:
            reason, message = explain(error)
            workflow.logger.warning("cost: %s", message)
            return reason != errors.TRANSIENT
        return True

    async def _write_report(self, storage: CheckpointStorage) -> bool:
        spec = self.job.spec
        report = job_report(self.job.start, spec, self.state, workflow.now())
        request = act.WriteReport(report=report, storage=storage, cloud=spec.gcp_credentials_secret_ref)
        try:
            written = await call(act.WRITE_REPORT, request, summary="write the report into the bucket")
        except ActivityError as error:
            reason, message = explain(error)
            if conditions.REPORT_WRITTEN not in self.state.conditions:
                self.job.event(events.REPORT_NOT_WRITTEN, message, warning=True)
            self.job.condition(conditions.REPORT_WRITTEN, False, reason, message)
            return reason != errors.TRANSIENT
        self.job.condition(conditions.REPORT_WRITTEN, True, reasons.IN_BUCKET, written.location)
        return True
