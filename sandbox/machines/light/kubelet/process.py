"""What runs in a container: the small interface that all kinds of process have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import sandbox

CHECKOUT = Path(sandbox.__file__).resolve().parent.parent
"""The directory that contains the packages, in which our own programs are found."""
OUR_PROGRAM = ("python", "-m", "programs.node_agent")
"""The command line of a container that is run as a real process."""

Json = dict[str, Any]
KILLED = 128 + signal.SIGKILL


class CheckpointError(Exception):
    """The runtime could not dump the container."""


class Process(Protocol):
    """A started process."""

    async def wait(self) -> int:
        """Wait for the exit code (128 + n for signal n), and return it."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...

    def vanish(self) -> None:
        """End it with its machine, so that nobody hears of it."""
        ...

    async def dump(self, seconds: float) -> Json:
        """Freeze it for ``seconds``, let it run on, and return its memory.

        Raises:
            CheckpointError: it cannot be dumped.
        """
        ...


class RealProcess:
    """One of our own programs, run as a child process of the sandbox."""

    def __init__(self, child: asyncio.subprocess.Process, log: Callable[[str], None]) -> None:
        self._child = child
        self._output = asyncio.create_task(self._copy_output(log))

    @classmethod
    async def start(
        cls, arguments: Sequence[str], environment: Mapping[str, str], log: Callable[[str], None]
    ) -> RealProcess:
        """Run this Python with ``arguments`` in the checkout, in a process group of its own."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=CHECKOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONUNBUFFERED": "1", **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(child, log)

    async def wait(self) -> int:
        """Wait for the exit code and for the last line of output, and return the exit code."""
        code = await self._child.wait()
        await self._output
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def vanish(self) -> None:
        """Send SIGKILL: who is connected to it hears of it all the same."""
        self.kill()

    async def dump(self, seconds: float) -> Json:
        """Refuse: the light machine has no CRIU, so a real process has no memory that could be saved."""
        raise CheckpointError("criu failed: type DUMP: a real process cannot be dumped on a light machine")

    def _signal(self, number: signal.Signals) -> None:
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, but asyncio does not know yet
                os.killpg(self._child.pid, number)

    async def _copy_output(self, log: Callable[[str], None]) -> None:
        assert self._child.stdout is not None
        async for line in self._child.stdout:
            log(line.decode(errors="replace").rstrip("\n"))
