"""Heartbeats during a long call, which distinguish a worker that died from one that waits for an answer."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import activity

from activities.signatures.base import MARGIN, WAITED_FOR

Seen = TypeVar("Seen")

POLL_SECONDS = (0.5, 4.0)
"""The first and the longest pause between two looks."""

EVERY_SECONDS = 5.0
"""The pause between two heartbeats if the caller has set no time-out for them."""


def watch_seconds(usual: float = 0.0) -> float:
    """Return for how long to watch: as long as the caller's time-out allows, or as ``usual`` if it is not patient.

    The time counts from when the caller asked. An attempt that began late, or after one that failed, watches for what
    is left of it. Both times are the service's, so the clock of this machine does not matter.
    """
    info = activity.info()
    heartbeat, whole = info.heartbeat_timeout, info.start_to_close_timeout
    if heartbeat is None or heartbeat < timedelta(seconds=WAITED_FOR) or whole is None:
        return usual
    passed = info.started_time - info.scheduled_time
    return max(0.0, (whole - passed).total_seconds() - MARGIN)


@contextlib.asynccontextmanager
async def heartbeats() -> AsyncIterator[None]:
    """Send heartbeats until the block ends. A cancellation that a heartbeat brings back ends the block.

    Each one that reaches the service is a billed action, so the first one is sent only after a while.
    """
    timeout = activity.info().heartbeat_timeout
    pause = timeout.total_seconds() / 2 if timeout else EVERY_SECONDS

    async def beat() -> None:
        while True:
            await asyncio.sleep(pause)
            activity.heartbeat()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


async def watch(
    look: Callable[[], Awaitable[Seen]],
    settled: Callable[[Seen], bool],
    seconds: float,
    pauses: tuple[float, float] = POLL_SECONDS,
) -> Seen:
    """Look again and again until what is seen is settled, or for so many seconds; return what was seen last.

    Args:
        look: Takes one look.
        settled: Says whether what it saw need not be looked at again.
        seconds: For how long to look. Nothing is looked at twice if that is less than the first pause.
        pauses: The first and the longest pause between two looks, in seconds.
    """
    deadline = time.monotonic() + seconds
    pause, longest = pauses
    while True:
        seen = await look()
        if settled(seen) or time.monotonic() + pause > deadline:
            return seen
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, longest)
