"""Supervised child processes: started with a log file, awaited with a deadline, stopped, and found after a crash.

Every child has the state directory in its environment (``OWNER``). That mark survives a ``kill -9`` of the sandbox and
is inherited by grandchildren, and no other process can have it that gets the same pid later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp

from sandbox.errors import SandboxError

log = logging.getLogger(__name__)

OWNER = "OUTLAST_SANDBOX_OWNER"
"""The environment variable that marks a process as belonging to the sandbox with this state directory."""


GO = {"GOMAXPROCS": "1", "GOGC": "400"}
"""The environment of programs written in Go, unless the user has set these variables. A sandbox runs a dozen such
servers on a few processors: each would spend a fifth to a quarter of its time on keeping all processors busy, and
Temporal a third of its time on collecting garbage (measured). Memory is cheaper.
"""


class Process:
    """One child process, in a session of its own so that only this process forwards a Ctrl-C to it.

    Its environment is ours with ``environment`` on top; None removes a variable.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        state_dir: Path,
        environment: Mapping[str, str | None] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = state_dir / "logs" / f"{name}.log"
        wanted = {**GO, **os.environ, **(environment or {}), OWNER: str(state_dir)}
        self._environment = {variable: value for variable, value in wanted.items() if value is not None}
        self._directory = directory
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._told_to_end = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child and self._child.returncode is None else None

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by this signal); None before it was started and while it runs."""
        return self._child.returncode if self._child else None

    async def start(self) -> None:
        """Start it, unless it runs already. Its output is appended to the log."""
        if self.pid:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self._directory,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._told_to_end = False
        self._watch = asyncio.create_task(self._report_end(self._child))

    async def _report_end(self, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()
        if not self._told_to_end:
            log.warning("%s ended by itself with code %s, see %s\n%s", self.name, code, self.log, self.log_tail(3))

    async def ready(self, check: Callable[[], Awaitable[bool]], deadline: float = 60.0) -> None:
        """Wait until ``check`` returns True, for at most ``deadline`` seconds.

        Raises:
            SandboxError: the process ended or the deadline passed before that.
        """
        began = time.monotonic()
        while not await check():
            if not self.pid:
                raise SandboxError(
                    f"{self.name} ended with code {self.exit_code}:\n{self.log_tail()}\n(log: {self.log})"
                )
            if time.monotonic() - began > deadline:
                raise SandboxError(
                    f"{self.name} is not ready after {deadline:.0f} s:\n{self.log_tail()}\n(log: {self.log})"
                )
            await asyncio.sleep(0.1)

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines of its log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def stop(self, grace: float = 10.0) -> None:
        """End it with SIGTERM, and after ``grace`` seconds with SIGKILL; returns once it is gone."""
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it and its children at once with SIGKILL; returns once it is gone."""
        self.send(signal.SIGKILL)
        await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it and its children a signal that ends them, unless it has ended."""
        if self.pid:
            self._told_to_end = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self._child:
            await self._child.wait()


class Server:
    """Runs one server. ``question`` is a URL that it answers with 200 once all of it serves."""

    def __init__(self, process: Process, question: str) -> None:
        self.process = process
        self._question = question

    async def up(self) -> None:
        """Start it; returns once it answers.

        Raises:
            SandboxError: it ends early, or is not ready in time.
        """
        await self.process.start()
        await self.process.ready(self._serves)

    async def down(self) -> None:
        """Stop it."""
        await self.process.stop()

    async def _serves(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._question) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def kill(process: asyncio.subprocess.Process) -> None:
    """Send SIGKILL to a child that may end at this very moment; wait for it afterwards.

    Its own ``kill`` would raise ProcessLookupError then, and take the exit code away from asyncio, which complains.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def leftovers(state_dir: Path) -> list[int]:
    """Return the pids of living processes that a sandbox with this state directory started (Linux: read from /proc).

    Processes in a VM have the VM's environment instead of ours: they are known by their home or kubeconfig.
    """
    marks = tuple(f"{name}={state_dir}/vms/".encode() for name in ("HOME", "KUBECONFIG"))
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to another user
            environment = (entry / "environ").read_bytes().split(b"\0")
            if f"{OWNER}={state_dir}".encode() in environment or any(v.startswith(marks) for v in environment):
                found.append(int(entry.name))
    return found


async def kill_leftovers(state_dir: Path, deadline: float = 10.0) -> int:
    """End what a sandbox left behind, and return how many processes that were.

    Raises:
        SandboxError: one still runs after ``deadline`` seconds.
    """
    seen: set[int] = set()
    began = time.monotonic()
    while remaining := leftovers(state_dir):
        if time.monotonic() - began > deadline:
            raise SandboxError(f"processes {remaining} of {state_dir} do not end: inspect them with ps, then kill them")
        for pid in remaining:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        seen.update(remaining)
        await asyncio.sleep(0.05)
    return len(seen)
