"""Mode Application: the bucket is read from time to time, so that people see whether a training publishes at all."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import conditions, reasons
    from api.storage import checkpoints_prefix

from workflows.common.calls import explain
from workflows.job.checkpoints.stored import find_stored
from workflows.job.core.job import Job


class Published:
    """Writes the condition CheckpointPublished of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def run(self) -> None:
        """Read the bucket from time to time while the job lives. Before the first start its mode may still change."""
        while not self.job.closing:
            # This wait needs no words of its own: the acceptance reports what it waits for.
            await workflow.wait_condition(lambda: self._applies() or self.job.closing)
            if self.job.closing:
                return
            await self.job.until(lambda: self.job.closing, self._next(), "the next read of the bucket")
            if not self.job.closing and any(replica.phase == "Running" for replica in self.state.replicas.values()):
                await self._read()

    def _next(self) -> datetime:
        """Return when to read next: a training that has published nothing yet may never do so."""
        known = self.state.conditions.get(conditions.CHECKPOINT_PUBLISHED)
        return self.job.next_look() if known is not None and known.status == "True" else self.job.next_check()

    def _applies(self) -> bool:
        return self.state.admitted and self.job.spec.checkpoint_config.mode == "Application"

    async def _read(self) -> None:
        try:
            point = await find_stored(self.job, report=False)
        except ActivityError as error:
            self.job.condition(conditions.CHECKPOINT_PUBLISHED, None, *explain(error))
            return
        storage = self.job.spec.checkpoint_config.checkpoint_storage
        if point is not None:
            self.job.condition(
                conditions.CHECKPOINT_PUBLISHED, True, reasons.COMPLETE, f"progress {point.progress:g}: {point.path}"
            )
        elif storage is not None:
            where = f"{storage.bucket}/{checkpoints_prefix(storage, self.job.start.job_id)}"
            message = f"no complete checkpoint below {where}: a loss now would cost everything"
            self.job.condition(conditions.CHECKPOINT_PUBLISHED, False, reasons.NONE_YET, message)
