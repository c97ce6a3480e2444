"""The state directory of a sandbox: who runs in it, whether anybody does, and what a crashed one left there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import time
from pathlib import Path
from typing import TextIO

from sandbox.errors import SandboxError
from sandbox.machines.real import cgroups
from sandbox.machines.real.ground import clear
from sandbox.processes import kill_leftovers
from sandbox.settings import OCTETS


class State:
    """One state directory. The lock on its pid file is held by the living sandbox and by nothing else."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pid_file = directory / "sandbox.pid"
        self._lock: TextIO | None = None

    async def claim(self, *, keep: bool) -> None:
        """Take the directory for this process: end what a crashed sandbox left, and empty it unless `keep`.

        Raises:
            SandboxError: where another sandbox runs in it, or it holds files that are not a sandbox's.
        """
        if self.directory.exists() and any(self.directory.iterdir()) and not self._pid_file.exists():
            raise SandboxError(f"{self.directory} is not a sandbox's and not empty; name another with --state")
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = self._pid_file.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SandboxError(
                f"a sandbox runs in {self.directory} already: `python -m sandbox down --state {self.directory}` ends it"
            ) from None
        self._lock = lock
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        await clear_up(self.directory)
        if not keep:
            self._empty()

    def release(self) -> None:
        """Let go of the directory; its files stay for whoever wants to read the logs."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def running(self) -> int | None:
        """The pid of the sandbox that runs in the directory."""
        with contextlib.suppress(FileNotFoundError), self._pid_file.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
        return None

    async def gone(self, deadline: float) -> bool:
        """Whether the sandbox that runs in the directory ends within `deadline` seconds."""
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
    """End and undo what a sandbox left on this machine; returns how many processes that were."""
    cgroups.thaw(cgroups.parent(state_dir))
    ended = await kill_leftovers(state_dir)
    clear(state_dir)
    return ended


def claim_octet(ssh_port: int) -> tuple[int, socket.socket]:
    """A second octet N of 127/8 that no other sandbox uses, and the socket that holds the claim until it is closed.

    Raises:
        SandboxError: where all of `OCTETS` are taken.
    """
    for octet in OCTETS:
        claim = socket.socket()
        try:
            # No VM gets host 1 of zone 0, as no machine in a cloud gets its network's gateway.
            claim.bind((f"127.{octet}.0.1", ssh_port))
            claim.listen(1)
        except OSError:
            claim.close()
            continue
        return octet, claim
    raise SandboxError(
        f"no address 127.{OCTETS.start}..{OCTETS.stop - 1}.0.1:{ssh_port} is free: end other sandboxes "
        "(and only Linux answers on all of 127.0.0.0/8 without being told)"
    )
