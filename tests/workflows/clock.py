"""The world's clock: Temporal's virtual time, and what is due on it."""

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Virtual time as last seen, and a queue of what happens when."""

    def __init__(self) -> None:
        self.now = datetime(2000, 1, 1, tzinfo=UTC)
        self._order = itertools.count()
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        """Let something happen so many virtual seconds from now."""
        heapq.heappush(self._due, (self.now + timedelta(seconds=seconds), next(self._order), happens))

    def next_in(self) -> float:
        """Seconds until the next thing is due."""
        return (self._due[0][0] - self.now).total_seconds() if self._due else float("inf")

    def advance(self, now: datetime) -> None:
        """Go to a moment; all that is due by then happens at its own time, in order."""
        while self._due and self._due[0][0] <= now:
            at, _, happens = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happens()
        self.now = max(self.now, now)
