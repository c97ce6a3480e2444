"""Mode Application: a look into the bucket by and by, so that people see whether a training saves itself at all."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api.storage import checkpoints_prefix

from workflows.calls import explain
from workflows.job import Job
from workflows.stored import find_stored

CONDITION = "CheckpointPublished"


class Published:
    """The condition CheckpointPublished of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def run(self) -> None:
        """Look as long as the job lives, in mode Application: before anything has begun the mode may still change."""
        while not self.job.closing:
            await workflow.wait_condition(
                lambda: self._applies() or self.job.closing
            )  # Admission tells what it waits for
            if self.job.closing:
                return
            await self.job.until(
                lambda: self.job.closing, self.job.after(self.state.timings.resync), "the next look into the bucket"
            )
            if not self.job.closing and any(replica.phase == "Running" for replica in self.state.replicas.values()):
                await self._look()

    def _applies(self) -> bool:
        return self.state.admitted and self.job.spec.checkpoint_config.mode == "Application"

    async def _look(self) -> None:
        try:
            point = await find_stored(self.job, tell=False)
        except ActivityError as error:
            self.job.condition(CONDITION, None, *explain(error))
            return
        storage = self.job.spec.checkpoint_config.checkpoint_storage
        if point is not None:
            self.job.condition(CONDITION, True, "Complete", f"progress {point.progress:g}: {point.path}")
        elif storage is not None:
            where = f"{storage.bucket}/{checkpoints_prefix(storage, self.job.start.job_id)}"
            message = f"no complete checkpoint below {where}: a loss now would cost everything"
            self.job.condition(CONDITION, False, "NoneYet", message)
