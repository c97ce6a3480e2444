"""Processes inside a VM: started in its directory with its PATH, and all found again when the power goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

MARK = "OUTLAST_MACHINE"
"""A variable that every process of a VM inherits. A process group would lose those that ``setsid`` detaches."""

KILL_SECONDS = 10.0
"""How long SIGKILL may take, in real seconds."""

CHUNK = 65536
"""How many bytes are passed on at a time between a pipe and a channel."""


class Processes:
    """The processes of one VM."""

    def __init__(self, mark: str, root: Path, environment: Mapping[str, str]) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._root = root
        self._environment = {
            **environment,
            MARK: mark,
            "HOME": str(root),
            "PATH": f"{root}/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }

    async def start(self, *argv: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        """Start ``argv`` in the VM's directory, in a session of its own, with pipes for stdin, stdout and stderr."""
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=self._root,
            env={**self._environment, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    def terminate(self) -> None:
        """Ask every process to end."""
        self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill every process, including those that start meanwhile; returns when none is left.

        Raises:
            TimeoutError: one is still alive after KILL_SECONDS, as in an uninterruptible sleep.
        """
        async with asyncio.timeout(KILL_SECONDS):
            while self._signal(signal.SIGKILL):  # noqa: ASYNC110 - they are not our children
                await asyncio.sleep(0.005)

    @property
    def any(self) -> bool:
        """True if any process is alive."""
        return next(self._pids(), None) is not None

    def _signal(self, number: signal.Signals) -> int:
        reached = 0
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                reached += 1
        return reached

    def _pids(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            # A zombie has an empty environment: it is dead, but not collected yet.
            with contextlib.suppress(OSError):
                if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
