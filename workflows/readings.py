"""How far each training says that it is, asked at leisure: on a notice there is no time."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call, explain
from workflows.job import Job
from workflows.pacing import Pacing
from workflows.state import Replica


class Readings:
    """What the trainings of one job report of themselves."""

    def __init__(self, job: Job, pacing: Pacing) -> None:
        self.job = job
        self.state = job.state
        self.pacing = pacing

    async def read_all(self) -> None:
        """Ask each training how far it is, before the furthest is chosen."""
        pattern = self.job.spec.checkpoint_config.progress
        if pattern is not None:
            running = [replica for replica in self.state.replicas.values() if replica.phase == "Running"]
            await asyncio.gather(*(self._read(replica, pattern.log_pattern) for replica in running))

    async def _read(self, replica: Replica, pattern: str) -> None:
        incarnation = replica.incarnation
        ref = act.ReplicaRef(job=self.job.ref, replica=replica.index, incarnation=incarnation)
        request = act.ReadProgress(ref=ref, log_pattern=pattern)
        try:
            reading = await call(act.READ_PROGRESS, request, summary=f"how far is replica {replica.index}?")
        except ActivityError as error:
            workflow.logger.warning("progress of replica %s: %s", replica.index, explain(error)[1])
            return
        if reading.progress is not None and replica.incarnation == incarnation:
            self.take(replica, reading.progress)

    def take(self, replica: Replica, progress: float) -> None:
        """A training whose reported progress stands still is Stalled, and never a source."""
        now = workflow.now()
        if progress != replica.reading:
            replica.reading, replica.reading_at, replica.stalled = progress, now, False
            return
        patience = timedelta(seconds=self.pacing.choice().seconds / 2)
        if replica.reading_at and now - replica.reading_at >= patience and not replica.stalled:
            replica.stalled = True
            self.job.event("Stalled", f"replica {replica.index} reports no progress", warning=True)
