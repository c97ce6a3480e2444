"""One timer for all waits of a workflow: waits that end at the same moment cost one timer together.

A timer is a billed action of Temporal and some five events of history, and a job's coroutines mostly wait for the same
thing: their next regular look, in case a message was lost.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.bounds import bounded

from workflows.common.patches import patched

_AT_ONCE = timedelta(milliseconds=1)
_NEVER = datetime.max.replace(tzinfo=UTC)
SHORTEST = 0.1
"""The shortest period of regular looks, in seconds."""


class Clock:
    """Wakes every wait at its deadline, once it was started.

    Args:
        period: Returns the seconds between two regular looks.
        began: From when the looks are counted, which may be in an earlier run; None: from the beginning of this one.
    """

    def __init__(self, period: Callable[[], float], began: datetime | None = None) -> None:
        self._period = period
        self._began = began or workflow.info().start_time
        self._waits: dict[int, tuple[datetime, str]] = {}
        self._number = 0
        self._armed: dict[datetime, asyncio.Task[None]] = {}
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Let waits end at their deadlines; ``stop`` before the run ends."""
        self._ticking = asyncio.create_task(self.run(), name="clock")
        return self._ticking

    def stop(self) -> None:
        """Leave no timer behind."""
        if self._ticking is not None:
            self._ticking.cancel()

    def next_look(self, at_most: float = float("inf")) -> datetime:
        """Find the next regular look: the same moment for everybody, a tenth of a period away at least.

        Args:
            at_most: The period in seconds if something is not as it should be, so that it is looked at more often.
        """
        period = timedelta(seconds=max(bounded(min(self._period(), at_most)), SHORTEST))
        passed = (workflow.now() + period / 10 - self._began) // period
        return self._began + (passed + 1) * period

    async def wait(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> bool:
        """Wait for a condition; False if the deadline came first."""
        if condition():
            return True
        self._number += 1
        mine = self._number
        self._waits[mine] = (deadline, waits_for)
        try:
            await workflow.wait_condition(lambda: condition() or workflow.now() >= deadline)
        finally:
            del self._waits[mine]
        return condition()

    async def run(self) -> None:
        """Have a timer for the earliest deadline. One for a later deadline stays, and one without a wait fires."""
        if not patched("kept-timers"):
            await self._run_one()
        try:
            while True:
                await workflow.wait_condition(self._is_unarmed)
                at, waits_for = self._earliest()
                if not self._is_unarmed():  # its condition came true in the same moment
                    continue
                self._armed[at] = asyncio.create_task(self._fire(at, waits_for), name="timer")
        finally:
            for timer in self._armed.values():
                timer.cancel()

    def _earliest(self) -> tuple[datetime, str]:
        """Find the earliest deadline to come. A wait whose deadline is reached ends without a timer."""
        ahead = [wait for wait in self._waits.values() if wait[0] > workflow.now()]
        return min(ahead, default=(_NEVER, ""))

    def _is_unarmed(self) -> bool:
        return self._earliest()[0] < min(self._armed, default=_NEVER)

    async def _fire(self, at: datetime, waits_for: str) -> None:
        await workflow.sleep(max(at - workflow.now(), _AT_ONCE), summary=self._summary(at, waits_for))
        del self._armed[at]

    async def _run_one(self) -> None:
        """Keep one timer on the earliest deadline, as earlier releases did."""
        while True:
            await workflow.wait_condition(lambda: bool(self._waits))
            if not self._waits:  # its condition came true in the same moment
                continue
            at, waits_for = min(self._waits.values())
            left = max(at - workflow.now(), _AT_ONCE)
            try:
                await workflow.wait_condition(
                    lambda armed=at: self._is_earlier(armed),  # type: ignore[misc]
                    timeout=left,
                    timeout_summary=self._summary(at, waits_for),
                )
            except TimeoutError:
                continue

    def _is_earlier(self, armed: datetime) -> bool:
        return any(deadline < armed for deadline, _ in self._waits.values())

    def _summary(self, at: datetime, waits_for: str) -> str:
        others = sum(deadline == at for deadline, _ in self._waits.values()) - 1
        return (f"{waits_for}, and {others} more" if others else waits_for)[:200]
