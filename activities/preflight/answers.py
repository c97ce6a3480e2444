"""Answers that several jobs share: a question asked a moment ago is not asked again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from temporalio.exceptions import ApplicationError

from api.common import Condition

T = TypeVar("T")
Look = Callable[[], Awaitable[list[Condition]]]

LONGEST_LOOK = 45.0
"""Seconds, fewer than the activity's time-out, so that a check that hangs fails by itself and blocks nobody."""
RETOLD = 10.0
"""Seconds for which a bad answer is repeated, since somebody may be correcting what is wrong."""


def all_true(found: list[Condition]) -> bool:
    """True if nothing is wrong."""
    return all(condition.status == "True" for condition in found)


class Answers(Generic[T]):
    """The answers of one worker process.

    A key has to contain everything on which its answer depends, including whose Secret is used: everyone who asks with
    an equal key gets the same answer.

    Args:
        lifetime: seconds for which a good answer is repeated.
        good: True if an answer is good.
        clock: the monotonic time in seconds.
    """

    def __init__(self, lifetime: float, good: Callable[[T], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime = lifetime
        self._good = good
        self._clock = clock
        self._forget_at = clock()
        self._known: dict[Hashable, tuple[float, T]] = {}  # valid until when, and the answer
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, key: Hashable, look: Callable[[], Awaitable[T]], *, known: bool) -> T:
        """Return what ``look`` finds; if ``known``, a recent answer is enough.

        Raises:
            ApplicationError: the check took too long.
        """
        self._forget_old()
        if known and key in self._known and self._known[key][0] > self._clock():
            return self._known[key][1]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._look(key, look))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)  # one caller may be cancelled; the others still need the answer

    async def _look(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(LONGEST_LOOK):
                found = await look()
        except TimeoutError as error:
            raise ApplicationError(f"no answer within {LONGEST_LOOK:.0f} s") from error
        self._known[key] = (
            self._clock() + (self._lifetime if self._good(found) else min(RETOLD, self._lifetime)),
            found,
        )
        return found

    def _landed(self, key: Hashable, flight: asyncio.Task[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # the callers receive it; if there are none, asyncio must not log it

    def _forget_old(self) -> None:
        now = self._clock()
        if now < self._forget_at:  # not at each call, because there may be an answer for each of thousands of jobs
            return
        self._forget_at = now + RETOLD
        for key in [key for key, (until, _) in self._known.items() if until <= now]:
            del self._known[key]
