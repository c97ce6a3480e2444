"""When a program with many objects collects its garbage: from time to time, and not in a storm of notices.

By default Python looks at all objects whenever the old ones have become a quarter more, and nothing else runs then:
0.2 s in a worker without jobs, and 0.2 ms more for each job. It is in a storm that they become more. So what exists
after the start is never looked at again, young objects are collected as always, and the old ones once in a while.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

EVERY = 60.0
"""Seconds between two looks at whether to collect."""
MOST = 10
"""A collection is put off for so many looks at most."""
WORTHWHILE = 30
"""Collections of younger objects, of some 7,000 allocations each, after which the old ones are worth a look."""
NEVER = 2**31 - 1


@asynccontextmanager
async def collected(quiet: Callable[[], bool] = lambda: True, every: float = EVERY) -> AsyncGenerator[None, None]:
    """Collect old garbage while the block runs, every so many seconds at most, in a moment that is ``quiet``."""
    young, middle, old = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, middle, NEVER)
    task = asyncio.create_task(_collect(quiet, every), name="garbage")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gc.set_threshold(young, middle, old)
        gc.unfreeze()


async def _collect(quiet: Callable[[], bool], every: float) -> None:
    put_off = 0
    while True:
        await asyncio.sleep(every)
        if gc.get_count()[2] < WORTHWHILE:
            continue
        put_off += 1
        if quiet() or put_off > MOST:
            put_off = 0
            gc.collect()
