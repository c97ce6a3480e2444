"""A restored replica shows that its image is good: it has trained for a minute and made progress."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.blame import PROVING_SECONDS, SOON_SECONDS, is_proven

from workflows.phases.life import Life, Part

FIRST_LOOK = PROVING_SECONDS / 2
"""After the start, at a figure with which a later one is compared."""


class Proof(Part):
    """The proof of one replica's image."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.readings = life.checkpointing.following.readings
        self.looked_at: datetime | None = None

    @property
    def due(self) -> datetime | None:
        """Compute when to look whether it trains; None if there is nothing to prove."""
        if not self.me.to_prove or self.me.running_since is None:
            return None
        if self.looked_at is None or self.looked_at < self.me.running_since:
            first = FIRST_LOOK if self.readings.reported else PROVING_SECONDS
            return self.me.running_since + timedelta(seconds=first)
        ran = (self.looked_at - self.me.running_since).total_seconds()
        return self.looked_at + timedelta(seconds=min(max(FIRST_LOOK, ran / 2), self.state.timings.resync))

    @property
    def is_due(self) -> bool:
        """True if it is time to look."""
        return self.due is not None and workflow.now() >= self.due

    async def look(self) -> None:
        """Call its image proven once it has trained for long enough."""
        me, ran = self.me, self._ran()
        if me.broken and ran >= SOON_SECONDS:
            me.broken = 0
        if not self.is_due or me.restore is None:
            return
        self.looked_at = workflow.now()
        await self.readings.read(me)
        if is_proven(ran, me.first_reading, me.reading, reported=self.readings.reported):
            me.to_prove = False
            self.restoring.proven(me.restore)

    def _ran(self) -> float:
        return (workflow.now() - (self.me.running_since or workflow.now())).total_seconds()
