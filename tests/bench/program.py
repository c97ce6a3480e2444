"""How a benchmark runs: until it is done, or until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(measuring: Coroutine[Any, Any, T]) -> T:
    """Measure. SIGTERM cancels, as Ctrl-C does, so that no sandbox is left up."""

    async def until_terminated() -> T:
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await measuring

    try:
        return asyncio.run(until_terminated())
    except asyncio.CancelledError:
        sys.exit("not measured: terminated")
