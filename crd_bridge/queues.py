"""Work by key: things of one key happen one after the other, things of different keys do not wait for each other.

Only the newest work of a key counts, because every piece means "make Temporal match this object as it is now". What
fails is done again, ever more slowly, until it succeeds or something newer takes its place.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Hashable

from temporalio.common import MetricMeter

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[float | None]]
"""Returns the seconds after which it wants to look again, None where it is done for good."""

FIRST_RETRY = 0.5
LAST_RETRY = 60.0
HURRIED = 50.0  # keys in a second, when all are to try again: who has just come back is not overrun
DEADLINE = 60.0  # of one piece of work


class NotYet(Exception):
    """Nothing is wrong, but it is too early: try again later."""


class Queues:
    """The queues of all keys; one task for each key with something to do."""

    def __init__(self, meter: MetricMeter = MetricMeter.noop) -> None:
        self._pending: dict[Hashable, Work] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._news: dict[Hashable, asyncio.Event] = {}
        self._failures = meter.create_counter("outlast_bridge_failures", "work that had to be done again")

    def put(self, key: Hashable, work: Work) -> None:
        """Do this next for ``key``, in place of what still waits there; ends a back-off at once."""
        self._pending[key] = work
        self._news.setdefault(key, asyncio.Event()).set()
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._drain(key), name=f"queue {key}")

    def drop(self, key: Hashable) -> None:
        """Forget what waits for ``key``."""
        if key in self._tasks:
            self.put(key, _nothing)

    def hurry(self) -> None:
        """End all back-offs, one after the other: what they wait for may be there again."""
        loop = asyncio.get_running_loop()
        for number, news in enumerate(self._news.values()):
            loop.call_later(number / HURRIED, news.set)

    async def close(self) -> None:
        """Stop everything; what is not done will be found again by the next list."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, key: Hashable) -> None:
        failures = 0
        try:
            while work := self._pending.pop(key, None):
                self._news[key].clear()
                again = None
                try:
                    again = await asyncio.wait_for(work(), DEADLINE)
                    failures = 0
                except Exception as error:  # whatever it was, the object still has to be matched
                    again = self._failed(key, failures, error)
                    failures += 1
                if again is not None:
                    self._pending.setdefault(key, work)
                    await self._news_within(key, again)
        finally:
            del self._tasks[key]
            del self._news[key]

    def _failed(self, key: Hashable, failures: int, error: Exception) -> float:
        wait = back_off(failures, FIRST_RETRY, LAST_RETRY)
        if isinstance(error, NotYet):
            log.info("%s; looking again in %.1f s", error, wait)
        else:
            said = str(error) or type(error).__name__
            log.warning("%s: %s; again in %.1f s", key, said, wait, exc_info=failures == 0 and _surprising(error))
            self._failures.add(1)
        return wait

    async def _news_within(self, key: Hashable, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news[key].wait(), seconds)


def back_off(failures: int, first: float, last: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, within bounds, never all at once."""
    return min(last, first * 2.0 ** min(failures, 20)) * random.uniform(0.75, 1.25)


def _surprising(error: Exception) -> bool:
    """A mistake of ours rather than the network's: worth a stack trace."""
    return isinstance(error, (TypeError, ValueError, LookupError, AttributeError, AssertionError))


async def _nothing() -> None:
    return None
