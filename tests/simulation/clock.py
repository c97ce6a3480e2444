"""The one clock of a simulated world: virtual time, and what is due on it."""

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Due:
    """Something that will happen, unless it is called off."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self.happens: Callable[[], None] | None = happens

    def call_off(self) -> None:
        self.happens = None


class Clock:
    """Virtual time, and a queue of what happens when. What is due at the same moment happens in the order of its
    planning.
    """

    def __init__(self) -> None:
        self.now = BEGINNING
        self._order = itertools.count()
        self._due: list[tuple[datetime, int, Due]] = []

    def after(self, seconds: float, happens: Callable[[], None]) -> Due:
        """Let something happen so many virtual seconds from now."""
        due = Due(happens)
        heapq.heappush(self._due, (self.now + timedelta(seconds=seconds), next(self._order), due))
        return due

    def next_in(self) -> float:
        """Return the seconds until the next thing is due; infinity if nothing is planned."""
        while self._due and self._due[0][2].happens is None:
            heapq.heappop(self._due)
        return max(0.0, (self._due[0][0] - self.now).total_seconds()) if self._due else float("inf")

    def advance(self, now: datetime) -> None:
        """Go to a moment. All that is due by then happens at its own time, in order."""
        while self._due and self._due[0][0] <= now:
            at, _, due = heapq.heappop(self._due)
            if due.happens is None:
                continue
            self.now = max(self.now, at)
            due.happens()
        self.now = max(self.now, now)
