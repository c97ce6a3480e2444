"""The light training: a simulated process that makes progress over time and keeps it in memory alone.

What is not in a checkpoint is lost when it dies; restored from one it goes on at the step of the dump, with the
environment and the hostname that it had then, as a process restored by CRIU does.

Environment (read from its memory, so a restored one keeps what it was first given):

| variable | meaning | default |
|---|---|---|
| `SANDBOX_STEPS` | steps until it is done and exits 0 | 60 |
| `SANDBOX_STEP_SECONDS` | duration of a step, divided by the sandbox's speed | 1.0 |
| `SANDBOX_SEED` | seed of the loss | 42 |
| `SANDBOX_ON_SIGTERM` | `exit143`, `exit0` or `ignore` | `exit143` |
| `SANDBOX_FAIL_AT_STEP` | step after which it fails with `SANDBOX_EXIT_CODE` | never |
| `SANDBOX_EXIT_CODE` | that exit code | 1 |
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.machines.light.kubelet.process import KILLED, CheckpointError, Json

IDENTITY = "/etc/outlast"
"""Where a training finds out who it is now: its environment may be that of the replica it was cloned from."""
STEP_SECONDS = 1.0
STEPS = 60
TERMINATED = 128 + signal.SIGTERM


@dataclass
class Memory:
    """All that a checkpoint holds of a training."""

    step: int
    environment: dict[str, str]
    hostname: str


class LightTraining:
    """One running training; starts on construction."""

    def __init__(self, memory: Memory, mounts: Mapping[str, Path], log: Callable[[str], None], speed: float) -> None:
        self._memory = memory
        self._identity_directory = mounts.get(IDENTITY)
        self._log = log
        self._speed = speed
        self._sigterm = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._task = asyncio.create_task(self._run())

    async def wait(self) -> int:
        """Wait for the exit code."""
        await asyncio.wait([self._task])
        return KILLED if self._task.cancelled() else self._task.result()

    def terminate(self) -> None:
        """Send SIGTERM; a frozen process sees it once it is thawed."""
        self._sigterm.set()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._task.cancel()

    async def dump(self, seconds: float) -> Json:
        """Freeze it for `seconds` and return its memory. Raises CheckpointError where it ends meanwhile."""
        if not self._thawed.is_set():
            raise CheckpointError("criu failed: type NOTIFY: the process is being dumped already")
        self._thawed.clear()
        try:
            await asyncio.wait([self._task], timeout=seconds)
            if self._task.done():
                raise CheckpointError("criu failed: type DUMP: the process ended during the dump")
            return asdict(self._memory)
        finally:
            self._thawed.set()

    async def _run(self) -> int:
        memory = self._memory
        env = memory.environment
        steps = int(env.get("SANDBOX_STEPS", STEPS))
        step_seconds = float(env.get("SANDBOX_STEP_SECONDS", STEP_SECONDS)) / self._speed
        fail_at = int(env.get("SANDBOX_FAIL_AT_STEP", -1))
        seed = env.get("SANDBOX_SEED", "42")
        on_sigterm = env.get("SANDBOX_ON_SIGTERM", "exit143")
        identity = None
        self._log(f"training from step {memory.step} of {steps} on host {memory.hostname}")
        while memory.step < steps:
            if (now := self._identity()) != identity:
                identity = now
                self._log(f"identity {identity}")
            if await self._told_to_stop(step_seconds):
                self._log(f"SIGTERM at step {memory.step}: {on_sigterm}")
                if on_sigterm != "ignore":
                    return 0 if on_sigterm == "exit0" else TERMINATED
                self._sigterm.clear()
                continue
            memory.step += 1
            self._log(f"step={memory.step}/{steps} loss={loss(seed, memory.step):.4f}")
            if memory.step == fail_at:
                code = int(env.get("SANDBOX_EXIT_CODE", 1))
                self._log(f"failing at step {memory.step} with exit code {code}")
                return code
        self._log(f"training done after {memory.step} steps")
        return 0

    async def _told_to_stop(self, seconds: float) -> bool:
        """Compute one step. True where SIGTERM came instead of its end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sigterm.wait(), seconds)
        await self._thawed.wait()
        return self._sigterm.is_set()

    def _identity(self) -> str:
        """What the downward-API volume says now, as `name=value` pairs."""
        directory = self._identity_directory
        if directory is None or not directory.is_dir():
            return "unknown"
        files = sorted(entry for entry in directory.iterdir() if entry.is_file())
        return " ".join(f"{file.name}={file.read_text().strip()}" for file in files)


def loss(seed: str, step: int) -> float:
    """The loss after `step` steps: falling, noisy, and the same for everyone with this seed."""
    noise = random.Random(f"{seed}/{step}").uniform(-0.02, 0.02)
    return 0.3 + 2.2 * math.exp(-step / 20) + noise
