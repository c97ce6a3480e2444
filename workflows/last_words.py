"""What people find of a job after its end: shortened logs, a report in the bucket, a last status."""

import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.spot_instance_job import CheckpointStorage
    from workflows.policy.backoff import back_off
    from workflows.policy.report import job_report

from workflows.calls import call, explain
from workflows.job import Job
from workflows.logs import Logs
from workflows.reporting import Reporting

PATIENCE_SECONDS = 3600.0
"""For the last status: an outage of the API server shorter than that costs nobody how a job has ended."""
TRIES = 10
"""Of each step at least; then the objects go all the same."""
CONDITION = "ReportWritten"


class LastWords:
    """The steps between a job's teardown and the moment in which its objects go."""

    def __init__(self, job: Job, reporting: Reporting) -> None:
        self.job = job
        self.state = job.state
        self.reporting = reporting

    async def say(self) -> None:
        """Take each step, and retry it a few times; the last status for an hour."""
        if workflow.patched("logs-shortened"):
            await self._try(self._shorten_logs)
            if (storage := self._bucket()) is not None:
                await self._try(lambda: self._write_report(storage))
        # Nobody reads of a deleted job.
        await self._try(self.reporting.flush, seconds=0 if self.state.shutdown else PATIENCE_SECONDS)

    async def _try(self, step: Callable[[], Awaitable[bool]], *, seconds: float = 0) -> None:
        deadline = self.job.after(seconds)
        for tries in itertools.count(1):
            if await step():
                return
            if tries >= TRIES and (workflow.now() >= deadline or not workflow.patched("patient-last-words")):
                return
            pause = timedelta(seconds=self.state.timings.retry)
            await workflow.sleep(pause if tries <= TRIES else back_off(tries - TRIES, self.state.timings.retry))

    async def _shorten_logs(self) -> bool:
        try:
            await Logs(self.job).shorten()
        except ActivityError as error:
            reason, message = explain(error)
            workflow.logger.warning("logs: %s", message)
            return reason != "Transient"
        return True

    def _bucket(self) -> CheckpointStorage | None:
        """The bucket of the report; None if there is none, or if an earlier run may have written more.

        A run that was never admitted knows only what there was to tear down.
        """
        spec = self.state.spec
        return spec.checkpoint_config.checkpoint_storage if spec is not None and self.state.admitted else None

    async def _write_report(self, storage: CheckpointStorage) -> bool:
        spec = self.job.spec
        report = job_report(self.job.start, spec, self.state, workflow.now())
        request = act.WriteReport(report=report, storage=storage, cloud=spec.gcp_credentials_secret_ref)
        try:
            written = await call(act.WRITE_REPORT, request, summary="leave the report in the bucket")
        except ActivityError as error:
            reason, message = explain(error)
            if CONDITION not in self.state.conditions:
                self.job.event("ReportNotWritten", message, warning=True)
            self.job.condition(CONDITION, False, reason, message)
            return reason != "Transient"
        self.job.condition(CONDITION, True, "InBucket", written.location)
        return True
