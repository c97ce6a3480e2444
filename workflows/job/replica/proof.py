"""The proof of an image: a replica restored from it has trained for a minute and made progress."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.job.replica.policy.blame import PROVING_SECONDS, SOON_SECONDS, is_proven

from workflows.job.replica.life import Life, Part

FIRST_CHECK = PROVING_SECONDS / 2
"""The seconds from the start to the first read of the progress, with which a later one is compared."""


class Proof(Part):
    """Finds out whether the image of one replica is proven."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.reported_progress = life.checkpoints.backups.reported_progress
        self.checked_at: datetime | None = None

    @property
    def due(self) -> datetime | None:
        """Return when to check whether the replica trains; None if there is nothing to prove."""
        if not self.me.run.to_prove or self.me.run.running_since is None:
            return None
        if self.checked_at is None or self.checked_at < self.me.run.running_since:
            first = FIRST_CHECK if self.reported_progress.is_reported else PROVING_SECONDS
            return self.me.run.running_since + timedelta(seconds=first)
        ran = (self.checked_at - self.me.run.running_since).total_seconds()
        return self.checked_at + timedelta(seconds=min(max(FIRST_CHECK, ran / 2), self.job.check_seconds))

    @property
    def is_due(self) -> bool:
        """True if a check is due."""
        return self.due is not None and workflow.now() >= self.due

    async def check(self) -> None:
        """Record that the image is proven, once the replica has trained for long enough."""
        me, ran = self.me, self._ran()
        if me.retry.broken and ran >= SOON_SECONDS:
            me.retry.broken = 0
        if not self.is_due or me.run.restore is None:
            return
        self.checked_at = workflow.now()
        await self.reported_progress.read(me)
        if is_proven(ran, me.run.first_reading, me.run.reading, reported=self.reported_progress.is_reported):
            me.run.to_prove = False
            self.restore_points.proven(me.run.restore)

    def _ran(self) -> float:
        return (workflow.now() - (self.me.run.running_since or workflow.now())).total_seconds()
