"""A supervised child process: started with a log file, waited for with a deadline, stopped, found again after a crash.

Every child carries the state directory in its environment (`OWNER`). That mark survives a `kill -9` of the sandbox, is
inherited by grandchildren, and cannot be mistaken for a stranger's process that got the same pid later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import SystemRandom

from sandbox.errors import SandboxError

log = logging.getLogger(__name__)

CLAIMS = 100
"""Ports that one process keeps claimed, see `free_port`: many more than it begins servers with at a time."""
_claims: deque[socket.socket] = deque()
_random = SystemRandom()

#: The environment variable that marks a process as belonging to the sandbox with this state directory.
OWNER = "OUTLAST_SANDBOX_OWNER"


GO = {"GOMAXPROCS": "1", "GOGC": "400"}
"""Environment of what is written in Go, for whoever has set nothing else. A sandbox is a dozen such servers on a few
processors: each of them would spend a fifth to a quarter of its time on keeping all processors busy, and a third of
Temporal's went into collecting garbage (measured). Memory is cheaper."""


class Process:
    """One child process, in a session of its own so that a Ctrl-C reaches it through us alone.

    Its environment is ours with `environment` above it, where None takes a variable away.
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
        """Start it; does nothing where it runs already. Its output is appended to the log."""
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
        self._watch = asyncio.create_task(self._say_when_it_ends(self._child))

    async def _say_when_it_ends(self, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()
        if not self._told_to_end:
            log.warning("%s ended by itself with code %s, see %s\n%s", self.name, code, self.log, self.log_tail(3))

    async def ready(self, check: Callable[[], Awaitable[bool]], deadline: float = 60.0) -> None:
        """Wait until `check` says yes, for at most `deadline` seconds.

        Raises:
            SandboxError: where the process ends, or the deadline passes, before that.
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
        """The last lines of its log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def stop(self, grace: float = 10.0) -> None:
        """End it with SIGTERM, and after `grace` seconds with SIGKILL; returns once it is gone."""
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once with SIGKILL, and its children with it; returns once it is gone."""
        self.send(signal.SIGKILL)
        await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal that ends it to it and its children; does nothing where it has ended."""
        if self.pid:
            self._told_to_end = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self._child:
            await self._child.wait()


def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to a child that may have ended in this moment; wait for it afterwards.

    Its own ``kill`` raises ProcessLookupError then, and takes the exit code away from asyncio, which complains.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def leftovers(state_dir: Path) -> list[int]:
    """Pids of living processes that a sandbox with this state directory has started (Linux: read from /proc).

    What runs in a VM has the VM's environment instead of ours: it is known by its home or its kubeconfig.
    """
    marks = tuple(f"{name}={state_dir}/vms/".encode() for name in ("HOME", "KUBECONFIG"))
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or of another user
            environment = (entry / "environ").read_bytes().split(b"\0")
            if f"{OWNER}={state_dir}".encode() in environment or any(v.startswith(marks) for v in environment):
                found.append(int(entry.name))
    return found


async def kill_leftovers(state_dir: Path, deadline: float = 10.0) -> int:
    """End what a sandbox left behind; returns how many processes that were.

    Raises:
        SandboxError: where one is still there after `deadline` seconds.
    """
    seen: set[int] = set()
    began = time.monotonic()
    while remaining := leftovers(state_dir):
        if time.monotonic() - began > deadline:
            raise SandboxError(f"processes {remaining} of {state_dir} do not end: look at them with ps, then kill them")
        for pid in remaining:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        seen.update(remaining)
        await asyncio.sleep(0.05)
    return len(seen)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no other call has given to anybody, in any process.

    It lies below the range from which the kernel takes ports for outgoing connections, so that none of these gets it
    before the server that it is meant for. Until that listens, a claim keeps it from whoever else looks for one: the
    UDP port of the same number, for as long as this process lives or until it has claimed many others since.
    """
    while True:
        port = _random.randrange(20000, 32000)
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            with socket.socket() as candidate:
                candidate.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > CLAIMS:
            _claims.popleft().close()
        return port
