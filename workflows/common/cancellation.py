"""How a workflow is cancelled: the request is recorded, and the work in progress is not interrupted."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def outlive_cancel(life: Coroutine[Any, Any, Result], cancelled: Callable[[], None]) -> Result:
    """Run a workflow's life to its own end; each cancellation from outside only calls ``cancelled``.

    A cancellation that reached the life itself would stop it in the middle of a teardown and leave machines behind.
    """
    task = asyncio.create_task(life)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():  # the worker evicts the workflow from its cache, so nothing goes on here
                raise
            cancelled()
