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
        if self.reported:
            running = [replica for replica in self.state.replicas.values() if replica.phase == "Running"]
            await asyncio.gather(*(self.read(replica) for replica in running))

    @property
    def reported(self) -> bool:
        """True if the trainings report how far they are."""
        return self.job.spec.checkpoint_config.progress is not None

    async def read(self, replica: Replica) -> None:
        """Ask one training how far it is."""
        incarnation = replica.incarnation
        progress = await self.ask(replica)
        if progress is not None and replica.incarnation == incarnation:
            self.take(replica, progress)

    async def ask(self, replica: Replica) -> float | None:
        """Read what a training reported last, even one that has ended; None if that is not known."""
        pattern = self.job.spec.checkpoint_config.progress
        if pattern is None:
            return None
        ref = act.ReplicaRef(job=self.job.ref, replica=replica.index, incarnation=replica.incarnation)
        request = act.ReadProgress(ref=ref, log_pattern=pattern.log_pattern)
        try:
            return (await call(act.READ_PROGRESS, request, summary=f"how far is replica {replica.index}?")).progress
        except ActivityError as error:
            workflow.logger.warning("progress of replica %s: %s", replica.index, explain(error)[1])
            return None

    def take(self, replica: Replica, progress: float) -> None:
        """A training whose reported progress stands still is Stalled, and never a source."""
        now = workflow.now()
        if replica.first_reading is None:
            replica.first_reading = progress
        if progress != replica.reading:
            replica.reading, replica.reading_at, replica.stalled = progress, now, False
            return
        patience = timedelta(seconds=self.pacing.choice().seconds / 2)
        if replica.reading_at and now - replica.reading_at >= patience and not replica.stalled:
            replica.stalled = True
            self.job.event("Stalled", f"replica {replica.index} reports no progress", warning=True)
