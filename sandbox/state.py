"""The state directory of a sandbox: whether a sandbox runs in it, and what a crashed one left there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import TextIO

from sandbox.errors import SandboxError
from sandbox.machines.real import cgroups
from sandbox.machines.real.ground import clear
from sandbox.processes import kill_leftovers


class State:
    """One state directory. Only a living sandbox has the lock on its pid file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pid_file = directory / "sandbox.pid"
        self._lock: TextIO | None = None

    async def claim(self, *, keep: bool) -> None:
        """Take the directory for this process: end what a crashed sandbox left, and empty it unless ``keep``.

        Raises:
            SandboxError: another sandbox runs in it, or it contains files that are not a sandbox's.
        """
        if self.directory.exists() and any(self.directory.iterdir()) and not self._pid_file.exists():
            raise SandboxError(
                f"{self.directory} is not empty and not a sandbox's; name another directory with --state"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = self._pid_file.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SandboxError(
                f"a sandbox runs in {self.directory} already; end it: `python -m sandbox down --state {self.directory}`"
            ) from None
        self._lock = lock
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        await clear_up(self.directory)
        if not keep:
            self._empty()

    def release(self) -> None:
        """Release the directory; its files stay for whoever wants to read the logs."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def running(self) -> int | None:
        """Return the pid of the sandbox that runs in the directory, None if none does."""
        with contextlib.suppress(FileNotFoundError), self._pid_file.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
        return None

    async def gone(self, deadline: float) -> bool:
        """True if the sandbox that runs in the directory ends within ``deadline`` seconds."""
        began = time.monotonic()
        while self.running():
            if time.monotonic() - began > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    def _empty(self) -> None:
        for entry in self.directory.iterdir():
            if entry == self._pid_file:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


async def clear_up(state_dir: Path) -> int:
    """End and undo what a sandbox left on this machine, and return how many processes that were."""
    cgroups.thaw(cgroups.parent(state_dir))
    ended = await kill_leftovers(state_dir)
    clear(state_dir)
    return ended
