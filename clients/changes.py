"""Changes of objects that others change at the same time: read, decide, write, and read again if somebody was quicker.

The resourceVersion that was read goes with each write, so the API server refuses (409) to write over what others have
written since. A refused write is repeated after a short random pause, so that several writers do not meet again.

    >>> await change(kube, where, lambda found: {"data": {"count": str(int(found["data"]["count"]) + 1)}}, "no count")
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from clients.kube import Json, Kube, KubeError, of_version

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds until a change is given up. With one more call it stays within the shortest time-out of an activity."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds


async def change(kube: Kube, where: str, decide: Callable[[Json], Json | None], otherwise: str) -> Json | None:
    """Patch the object at ``where``.

    Args:
        kube: the cluster.
        where: the object's path.
        decide: makes a merge patch of the object as it is now, or None if nothing is to be changed. It is called again
            whenever others have changed the object meanwhile.
        otherwise: what remains undone if it fails, for example "the log could not be shortened".

    Returns:
        The object as it is now; None if it does not exist.

    Raises:
        TimeoutError: others change it all the time.
    """

    async def write(found: Json) -> Json:
        patch = decide(found)
        return found if patch is None else await kube.patch(where, of_version(found, patch))

    return await write_current(kube, where, write, otherwise)


async def write_current(
    kube: Kube, where: str, write: Callable[[Json], Awaitable[T]], otherwise: str, patience: float = PATIENCE
) -> T | None:
    """Read an object and write it in whatever way, until nobody has changed it in between.

    Args:
        kube: the cluster.
        where: the object's path.
        write: writes the object that was read, together with its resourceVersion, and may refuse to.
        otherwise: what remains undone if it fails.
        patience: the seconds until it fails.

    Returns:
        What ``write`` returns; None if the object does not exist.

    Raises:
        TimeoutError: others change it all the time.
    """

    async def if_it_exists(found: Json | None) -> T | None:
        return None if found is None else await write(found)

    return await write_or_create(kube, where, if_it_exists, otherwise, patience)


async def write_or_create(
    kube: Kube, where: str, write: Callable[[Json | None], Awaitable[T]], otherwise: str, patience: float = PATIENCE
) -> T:
    """Do the same with an object that may not exist: then ``write`` is given None, and may create it."""
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return await write(await kube.find(where))
        except KubeError as error:
            if error.status not in (404, 409):
                raise
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{where} is changed by others all the time: {otherwise}")
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(2 * pause, LONGEST_PAUSE)
