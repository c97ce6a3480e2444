"""One cloud for all processes of a test run: the first that needs it brings it up, the last takes it down."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO

from tests.e2e.rig import Rig


class SharedCloud:
    """The run's cloud, as one of its processes sees it.

    A lock on ``door`` is held while somebody brings the cloud up or takes it down. Everybody who uses it holds a shared
    lock on ``inside``, which a process that dies loses with its life. So whoever leaves and gets that lock alone is the
    last.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        state_dir = rig.settings.state_dir
        state_dir.parent.mkdir(parents=True, exist_ok=True)
        self._door = state_dir.with_suffix(".door")
        self._inside = state_dir.with_suffix(".inside").open("w")

    async def enter(self) -> None:
        """Use it, and bring it up if nobody else does."""
        async with _locked(self._door):
            fcntl.flock(self._inside, fcntl.LOCK_SH)
            if not self.rig.is_up():
                await self.rig.launch()
        await self.rig.attach()

    async def leave(self, last: Callable[[Rig], Awaitable[None]]) -> None:
        """Stop using it. If nobody else does, do the ``last`` thing with it and take it down."""
        async with _locked(self._door):
            try:
                fcntl.flock(self._inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await self.rig.detach()
                return
            try:
                await last(self.rig)
            finally:
                await self.rig.down()


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[IO[str]]:
    with path.open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield file
