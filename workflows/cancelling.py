"""A cancelled workflow: the wish is recorded, what it is at is never torn apart."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def outlive_cancel(life: Coroutine[Any, Any, Result], cancelled: Callable[[], None]) -> Result:
    """Run a workflow's life to its own end; each cancellation from outside only calls ``cancelled``.

    A cancellation that reached the life itself would stop it in the middle of a teardown, and machines would stay.
    """
    task = asyncio.create_task(life)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():  # the worker takes the workflow out of its cache: nothing goes on here
                raise
            cancelled()
