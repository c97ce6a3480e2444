"""Urgent work goes first inside the process, too: all activities of a worker share one thread.

At Temporal urgent activities have the highest priority. But if a hundred others begin in the same moment, which happens
when a zone is reclaimed, each has a hundredth of the thread.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.signatures import RequestedCheckpoint
from api.names import TASK_QUEUE, URGENT

MOMENT = 0.01
"""Seconds in which an urgent activity that comes from the same workflow task can begin first."""
QUIET = 0.3
"""Seconds for which no urgent activity was under way until others begin: in a storm the next notice is being judged."""
STORM = 5
"""From so many urgent activities on, without a quiet moment between them, it is a storm."""
LEAST_REST, MOST_REST = 5.0, 60.0
"""Seconds for which a workflow that was answered in a storm asks for nothing else …"""
BLIND_REST = 15.0
"""… and the most if the marked nodes do not tell how many are still to come."""
COUNTED = 0.25
"""Seconds for which a count of the marked nodes is used again."""
SHARE = 0.25
"""The share of its time-out for which an activity is held up at most …"""
MOST = 3.0
"""… and the most seconds."""


class UrgentFirst(Interceptor):
    """Lets no other activity begin while urgent ones are under way. All workers of a process share one.

    Args:
        most: how many activities of the queue of urgent ones are held up at once. Each has one of the queue's slots
            meanwhile, and without a slot no urgent one begins.
        marked: counts the nodes that are marked to go now, as far as this process knows.
    """

    def __init__(self, most: int = 50, marked: Callable[[], int] = lambda: 0) -> None:
        self._most = most
        self._marked = marked
        self._marked_before = 0  # in the last quiet moment
        self._counted = (0, 0.0)  # how many were marked, and until when that is used
        self._held_up = 0
        self._under_way = 0
        self._in_a_row = 0
        self._since = 0.0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._soon: asyncio.TimerHandle | None = None

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity."""
        return _Turn(next, self)

    @property
    def quiet(self) -> bool:
        """True if no urgent activity is under way, or was a moment ago."""
        return self._quiet.is_set()

    def begin(self) -> None:
        """Note that an urgent activity begins."""
        if self._quiet.is_set():
            self._in_a_row, self._since = 0, time.monotonic()
        self._under_way += 1
        self._in_a_row += 1
        self._quiet.clear()
        if self._soon is not None:
            self._soon.cancel()

    def end(self) -> None:
        """Note that one has ended."""
        self._under_way -= 1
        if not self._under_way:
            self._soon = asyncio.get_running_loop().call_later(QUIET, self._settle)

    def rest(self) -> float:
        """Compute how long a workflow that has been answered should ask for nothing else, in seconds.

        It is as long as the notices of all nodes marked since the last quiet moment will take at the present pace, and
        twice as long as the storm has lasted if those are fewer, because notices come from elsewhere, too. It is a
        random time longer, so that not all go on in one moment, and 0 outside of a storm.
        """
        if self._in_a_row < STORM:
            return 0.0
        lasted = time.monotonic() - self._since
        to_come = lasted * (self._count() - self._marked_before - self._in_a_row) / self._in_a_row
        rest = min(MOST_REST, max(LEAST_REST, min(BLIND_REST, 2 * lasted), to_come))
        return rest * random.uniform(1.0, 1.5)

    def _settle(self) -> None:
        self._quiet.set()
        self._marked_before = self._marked()

    def _count(self) -> int:
        marked, until = self._counted
        if time.monotonic() >= until:
            marked = self._marked()
            self._counted = marked, time.monotonic() + COUNTED
        return marked

    async def pause(self, longest: float, queue: str) -> None:
        """Hold up an activity of this queue until it is quiet, but for so many seconds at most."""
        await asyncio.sleep(MOMENT)
        takes = int(queue == TASK_QUEUE)
        if self._quiet.is_set() or (takes and self._held_up >= self._most):
            return
        self._held_up += takes
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), longest)
        finally:
            self._held_up -= takes


class _Turn(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, turns: UrgentFirst) -> None:
        super().__init__(next)
        self._turns = turns

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if info.priority.priority_key != URGENT:
            allowed = info.start_to_close_timeout
            longest = min(MOST, SHARE * allowed.total_seconds()) if allowed else MOST
            await self._turns.pause(longest, info.task_queue)
            return await super().execute_activity(input)
        self._turns.begin()
        try:
            answer = await super().execute_activity(input)
            if isinstance(answer, RequestedCheckpoint):
                return answer.model_copy(update={"others_wait": self._turns.rest()})
            return answer
        finally:
            self._turns.end()
