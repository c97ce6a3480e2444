"""Work by key: work of one key runs one piece after the other, and no key waits for another's failures.

Only the newest work of a key counts, because every piece means "make Temporal match this object as it is now". Failed
work is retried, ever more slowly, until it succeeds or newer work replaces it. Only so many pieces run at once, and
urgent ones have room of their own, so that ten thousand objects that are all matched after a restart neither fill the
memory nor delay a notice.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any

from temporalio.common import MetricMeter

from api import log_context, metrics
from clients.watch import back_off
from crd_bridge.reported import Version

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[float | None]]
"""Returns the seconds after which it wants to run again, or None if it is done."""

Permission = Callable[[], Awaitable[None]]
"""Returns as soon as work may begin."""

FIRST_RETRY = 0.5
LAST_RETRY = 60.0
DEADLINE = 60.0  # for one piece of work


class NotYet(Exception):
    """Nothing is wrong, but it is too early: retry later."""


@dataclass(frozen=True)
class Room:
    """How many pieces of work may run at once. Each is a call or two, most of whose time is waiting for an answer."""

    any: int = 64
    urgent: int = 64
    """So many more if they are urgent."""


async def always() -> None:
    """Permit everything at once."""


class Queues:
    """The queues of all keys; work begins only with ``permission`` and while there is ``room``."""

    def __init__(
        self, meter: MetricMeter = MetricMeter.noop, permission: Permission = always, room: Room = Room()
    ) -> None:
        self._permission = permission
        self.room = room
        self._pending: dict[Hashable, Work] = {}  # the newest work of each key, unless it has begun
        self._urgent: set[Hashable] = set()
        self._owed: dict[Hashable, dict[str, int]] = {}  # key → kind → the first version that is not reported yet
        self._ready: tuple[deque[Hashable], deque[Hashable]] = (deque(), deque())  # urgent ones, and the others
        self._later: dict[Hashable, asyncio.TimerHandle] = {}
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._failed: dict[Hashable, int] = {}  # key → failures in a row
        self._closed = False
        self._failures = meter.create_counter(*metrics.BRIDGE_FAILURES.made_by)
        self._waiting = meter.create_gauge(*metrics.BRIDGE_WAITING.made_by)

    @property
    def idle(self) -> bool:
        """True if there is nothing to do, now or later."""
        return not self._pending and not self._running

    def put(self, key: Hashable, work: Work, *, urgent: bool = False, owed: Version | None = None) -> None:
        """Do this next for ``key``, instead of the work that still waits there; this ends a back-off at once.

        ``owed`` is the kind and the resourceVersion of the object that changed: see ``owes``.
        """
        begun = key not in self._pending
        self._pending[key] = work
        if owed:
            self._owed.setdefault(key, {}).setdefault(*owed)
        if urgent:
            self._urgent.add(key)
        timer = self._later.pop(key, None)
        if timer:
            timer.cancel()
        if timer or (begun and key not in self._running):
            self._line_up(key)

    def owes(self) -> dict[str, int]:
        """Find the lowest version, by kind, of the changes that have not been reported. What is closed stays owed."""
        lowest: dict[str, int] = {}
        for owed in self._owed.values():
            for kind, version in owed.items():
                lowest[kind] = min(version, lowest.get(kind, version))
        return lowest

    def drop(self, key: Hashable) -> None:
        """Forget the work that waits for ``key``."""
        if key in self._pending or key in self._running:
            self.put(key, _nothing)

    def hurry(self) -> None:
        """End all back-offs, because what they wait for may have returned. Urgent work is done first."""
        for key in list(self._later):
            self._due(key)

    async def close(self) -> None:
        """Stop everything; the next list will find what was not done."""
        self._closed = True
        for timer in self._later.values():
            timer.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _line_up(self, key: Hashable) -> None:
        urgent, others = self._ready
        (urgent if key in self._urgent else others).append(key)
        self._begin()

    def _begin(self) -> None:
        """Begin what waits in line, as far as there is room."""
        urgent, others = self._ready
        while not self._closed:
            if urgent and len(self._running) < self.room.any + self.room.urgent:
                key = urgent.popleft()
            elif others and len(self._running) < self.room.any:
                key = others.popleft()
            else:
                break
            self._running[key] = asyncio.create_task(self._do(key), name=f"queue {key}")
        self._waiting.set(len(urgent) + len(others) + len(self._running.keys() | self._failed.keys()))

    async def _do(self, key: Hashable) -> None:
        """Do the newest work of a key that has no other under way."""
        log_context.about(**_about(key))
        await self._permission()
        work = self._pending.pop(key)
        again = None
        try:
            again = await asyncio.wait_for(work(), DEADLINE)
            self._failed.pop(key, None)
        except Exception as error:  # whatever it was, the object still has to be matched
            again = self._retry(key, error)
        finally:
            del self._running[key]
        if key in self._pending:  # newer work came meanwhile
            self._line_up(key)
        elif again is not None:
            self._pending[key] = work
            self._later[key] = asyncio.get_running_loop().call_later(again, self._due, key)
        else:
            self._urgent.discard(key)
            self._owed.pop(key, None)
        self._begin()

    def _due(self, key: Hashable) -> None:
        self._later.pop(key).cancel()
        self._line_up(key)

    def _retry(self, key: Hashable, error: Exception) -> float:
        """Report a failure; return the seconds until the next attempt."""
        failures = self._failed.get(key, 0)
        wait = back_off(failures, FIRST_RETRY, LAST_RETRY)
        if isinstance(error, NotYet):
            log.info("%s; looking again in %.1f s", error, wait)
        else:
            said = str(error) or type(error).__name__
            log.warning("%s: %s; again in %.1f s", key, said, wait, exc_info=failures == 0 and _surprising(error))
            self._failures.add(1)
        self._failed[key] = failures + 1
        return wait


def _surprising(error: Exception) -> bool:
    """True if it is a mistake of ours rather than the network's, which is worth a stack trace."""
    return isinstance(error, (TypeError, ValueError, LookupError, AttributeError, AssertionError))


def _about(key: Any) -> dict[str, log_context.Field]:
    """Find in a key what the log says that its work is about."""
    match key:
        case ("job", str(job)) | ("vm", _, str(job)):
            return {"job": job}
        case ("node" | "notice", str(node), str(workflow)):
            return {"vm": node, **log_context.of_workflow(workflow)}
        case ("certificate", str(node)):
            return {"vm": node}
        case ("replica", replica):
            return {**log_context.of_workflow(replica.workflow), "replica": replica.replica}
    return {}


async def _nothing() -> None:
    return None
