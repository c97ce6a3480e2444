"""Answers that several jobs share: a question that somebody has just asked is not asked again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from temporalio.exceptions import ApplicationError

from api.common import Condition

T = TypeVar("T")
Look = Callable[[], Awaitable[list[Condition]]]

LONGEST_LOOK = 45.0
"""Seconds. Less than the activity's time-out, so that a look that hangs fails by itself and blocks nobody."""
RETOLD = 10.0
"""Seconds for which a bad answer is given again: somebody may be correcting what is wrong."""


def all_true(found: list[Condition]) -> bool:
    """True if nothing is wrong."""
    return all(condition.status == "True" for condition in found)


class Answers(Generic[T]):
    """The answers of one worker process.

    A key has to name everything that its answer depends on, including whose Secret is used: everyone who asks with an
    equal key gets the answer.

    Args:
        lifetime: seconds for which a good answer is given again.
        good: whether an answer is one.
        clock: monotonic seconds.
    """

    def __init__(self, lifetime: float, good: Callable[[T], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime = lifetime
        self._good = good
        self._clock = clock
        self._known: dict[Hashable, tuple[float, T]] = {}  # until when, and the answer
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, key: Hashable, look: Callable[[], Awaitable[T]], *, known: bool) -> T:
        """Give what ``look`` finds; if ``known``, a recent answer will do.

        Raises:
            ApplicationError: the look took too long.
        """
        self._forget_old()
        if known and key in self._known:
            return self._known[key][1]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._look(key, look))
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)  # one of those who wait may be cancelled; the others still want to know

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
            flight.exception()  # those who waited get it; if nobody did, asyncio must not warn of it

    def _forget_old(self) -> None:
        now = self._clock()
        for key in [key for key, (until, _) in self._known.items() if until <= now]:
            del self._known[key]
