"""The light training: a simulated process that makes progress over time and keeps it in memory alone.

What is not in a checkpoint is lost when it dies; restored from one it goes on at the step of the dump, with the
environment and the hostname that it had then, as a process restored by CRIU does.

Environment (read from its memory, so a restored one keeps what it was first given):

| variable | meaning | default |
|---|---|---|
| ``SANDBOX_STEPS`` | steps until it is done and exits 0 | 60; 0 in an init container |
| ``SANDBOX_UNTIL`` | path of a file on this machine: until it exists it goes on, whatever its steps | none |
| ``SANDBOX_STEP_SECONDS`` | duration of a step, divided by the sandbox's speed | 1.0 |
| ``SANDBOX_SEED`` | seed of the loss | 42 |
| ``SANDBOX_ON_SIGTERM`` | ``exit143``, ``exit0`` or ``ignore`` | ``exit143`` |
| ``SANDBOX_FAIL_AT_STEP`` | step after which it fails with ``SANDBOX_EXIT_CODE`` | never |
| ``SANDBOX_FAIL_MEMBER`` | the member of a gang that does | all |
| ``SANDBOX_EXIT_CODE`` | that exit code | 1 |
| ``SANDBOX_OUTPUT`` | path of a file that it writes in its own file system when it is done | none |
| ``SANDBOX_SAVE_EVERY`` | steps after which it saves itself into its checkpoint storage, and at SIGTERM | never |
| ``SANDBOX_SHARDS`` | processes that save a part each; 0: one that saves all by ``outlast.json`` | 0 |
| ``SANDBOX_PEER_LOSS`` | what it does once a peer has ended: ``fail`` or ``hang`` | ``fail`` |
| ``SANDBOX_AGREE`` | members that need a SIGTERM until all save and exit: ``any`` or ``all`` | ``any`` |
| ``SANDBOX_PULL_SECONDS`` | how long its image is pulled before it starts, read by the kubelet | 0 |

An image of the sandbox's registry that does not exist fails to be pulled; those of other hosts always exist.

The pods of an Indexed Job may train together (``gang.py``). Then a step needs all of them, and each saves a part. A
peer that hangs ignores SIGTERM, and every peer of a machine that vanished without a word hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from sandbox.machines.light.kubelet.gang import FAIL_SECONDS, Gang, PeerLost, Seat
from sandbox.machines.light.kubelet.own_checkpoints import OwnCheckpoints
from sandbox.machines.light.kubelet.process import KILLED, CheckpointError, Json

IDENTITY = "/etc/outlast"
"""The directory that tells a training who it is: its environment may be that of the replica it was cloned from."""
TERMINATED = 128 + signal.SIGTERM
ON_SIGTERM = {"exit143": TERMINATED, "exit0": 0, "ignore": None}
BAD_ENVIRONMENT = 2
UNLOADABLE = 3
PEER_LOST = 1
PEER_LOSS = ("fail", "hang")
AGREE = {"any": any, "all": all}


@dataclass(frozen=True)
class Knobs:
    """The environment variables of the table above."""

    steps: int
    until: str
    step_seconds: float
    seed: str
    on_sigterm: str
    fail_at_step: int | None
    fail_member: int | None
    exit_code: int
    save_every: int
    shards: int
    output: str
    peer_loss: str
    agree: str

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Knobs:
        """Read the variables.

        Raises:
            ValueError: a value makes no sense.
        """
        return cls(
            steps=int(env.get("SANDBOX_STEPS", 60)),
            until=env.get("SANDBOX_UNTIL", ""),
            step_seconds=float(env.get("SANDBOX_STEP_SECONDS", 1.0)),
            seed=env.get("SANDBOX_SEED", "42"),
            on_sigterm=_one_of(ON_SIGTERM, env, "SANDBOX_ON_SIGTERM", "exit143"),
            fail_at_step=int(env["SANDBOX_FAIL_AT_STEP"]) if env.get("SANDBOX_FAIL_AT_STEP") else None,
            fail_member=int(env["SANDBOX_FAIL_MEMBER"]) if env.get("SANDBOX_FAIL_MEMBER") else None,
            exit_code=int(env.get("SANDBOX_EXIT_CODE", 1)),
            save_every=int(env.get("SANDBOX_SAVE_EVERY", 0)),
            shards=int(env.get("SANDBOX_SHARDS", 0)),
            output=env.get("SANDBOX_OUTPUT", ""),
            peer_loss=_one_of(PEER_LOSS, env, "SANDBOX_PEER_LOSS", "fail"),
            agree=_one_of(AGREE, env, "SANDBOX_AGREE", "any"),
        )

    def done(self, step: int) -> bool:
        """True if a training that has made so many steps may end."""
        return step >= self.steps and (not self.until or Path(self.until).exists())

    def fails(self, step: int, member: int) -> bool:
        """True if this member of a training fails after this step."""
        return step == self.fail_at_step and self.fail_member in {None, member}


def _one_of(values: Collection[str], env: Mapping[str, str], name: str, default: str) -> str:
    if (value := env.get(name, default)) not in values:
        raise ValueError(f"{name}={value} is none of {', '.join(values)}")
    return value


@dataclass
class Memory:
    """Everything that a checkpoint contains of a training."""

    step: int
    environment: dict[str, str]
    hostname: str


class LightTraining:
    """Runs one training from its construction on. What it writes in its own file system goes to ``layer``.

    With a ``seat`` it is the member of a gang, and trains when all members do.
    """

    def __init__(
        self,
        memory: Memory,
        mounts: Mapping[str, Path],
        log: Callable[[str], None],
        speed: float,
        layer: Path | None = None,
        seat: Seat | None = None,
    ) -> None:
        self._memory = memory
        self._layer = layer
        self._identity_directory = mounts.get(IDENTITY)
        self._identity_files: list[tuple[str, int]] = []  # each with the time of its last change
        self._identity_text = ""
        self._log = log
        self._speed = speed
        self._sigterm = asyncio.Event()
        self._wake = asyncio.Event()
        """Interrupts the present step: after a SIGTERM to this process or to a peer."""
        self._rank = seat.rank if seat else 0
        self._gang: Gang | None = seat.meet() if seat else None
        self._vanished = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._task = asyncio.create_task(self._run())

    async def wait(self) -> int:
        """Wait for the exit code, and return it."""
        await asyncio.wait([self._task])
        return KILLED if self._task.cancelled() else self._task.result()

    def terminate(self) -> None:
        """Send SIGTERM; a frozen process sees it once it is thawed."""
        self._sigterm.set()
        self._wake.set()
        if self._gang is not None:
            self._gang.wake()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._task.cancel()

    def vanish(self) -> None:
        """Die with the machine, of which peers hear nothing."""
        self._vanished = True
        self._task.cancel()

    async def dump(self, seconds: float) -> Json:
        """Freeze it for ``seconds`` and return its memory.

        Raises:
            CheckpointError: it ended meanwhile.
        """
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
        try:
            knobs = Knobs.of(self._memory.environment)
        except ValueError as error:
            self._log(f"bad environment: {error}")
            return BAD_ENVIRONMENT
        if self._gang is None:
            return await self._train(knobs)
        return await self._train_together(self._gang, knobs)

    async def _train_together(self, gang: Gang, knobs: Knobs) -> int:
        """Train as a member, and leave the gang at the end, however that comes."""
        gang.join(self._rank, self._wake.set)
        try:
            return await self._train(knobs)
        except PeerLost as error:
            self._log(f"a peer was lost at step {self._memory.step}: {error}")
            return PEER_LOST
        finally:
            fails = knobs.peer_loss == "fail" and not self._vanished
            gang.leave(fail_after=FAIL_SECONDS / self._speed if fails else None)

    async def _train(self, knobs: Knobs) -> int:
        memory = self._memory
        identity = None
        own = OwnCheckpoints.told_by(self._identity_directory) if knobs.save_every else None
        if own is not None and not memory.step:
            try:
                memory.step = await own.load()
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
                self._log(f"its checkpoint cannot be loaded: {error}")
                return UNLOADABLE
        if self._gang is not None and not await self._met(self._gang):
            self._log("SIGTERM before all peers were there")
            return TERMINATED
        self._log(f"training from step {memory.step} of {knobs.steps} on host {memory.hostname}")
        while not await self._agreed(knobs.done(memory.step)):
            if (now := self._identity()) != identity:
                identity = now
                self._log(f"identity {identity}")
            told = await self._told_to_stop(knobs.step_seconds / self._speed)
            if await self._agreed(told, AGREE[knobs.agree]):
                self._log(f"SIGTERM at step {memory.step}: {knobs.on_sigterm}")
                await self._save(own, knobs.shards)
                if (code := ON_SIGTERM[knobs.on_sigterm]) is not None:
                    return code
                self._sigterm.clear()
                continue
            memory.step += 1
            self._log(f"step={memory.step}/{knobs.steps} loss={loss(knobs.seed, memory.step):.4f}")
            if own is not None and memory.step % knobs.save_every == 0:
                await self._save(own, knobs.shards)
            if knobs.fails(memory.step, self._rank):
                self._log(f"failing at step {memory.step} with exit code {knobs.exit_code}")
                return knobs.exit_code
        if knobs.output and self._layer is not None:
            file = self._layer / knobs.output.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"model after {memory.step} steps\n")
        self._log(f"training done after {memory.step} steps")
        return 0

    async def _save(self, own: OwnCheckpoints | None, shards: int) -> None:
        if own is None:
            return
        try:
            step, gang = self._memory.step, self._gang
            if gang is None:
                path = await (own.save_sharded(step, range(shards), shards) if shards else own.save(step))
            else:  # each member saves what the processes on its machine would
                each = max(1, shards)
                ranks = range(self._rank * each, (self._rank + 1) * each)
                path = await own.save_sharded(step, ranks, gang.size * each)
            self._log(f"saved {path}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self._log(f"not saved: {error}")

    async def _told_to_stop(self, seconds: float) -> bool:
        """Compute one step; True if SIGTERM came before its end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()
        await self._thawed.wait()
        return self._sigterm.is_set()

    async def _met(self, gang: Gang) -> bool:
        """Wait until all members have started; False if SIGTERM came before."""
        waits = [asyncio.create_task(event.wait()) for event in (gang.whole, self._sigterm)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return gang.whole.is_set()

    async def _agreed(self, flag: bool, rule: Callable[[list[bool]], bool] = any) -> bool:
        """Agree with the other members of a gang, at the same step of all of them. One alone has its way.

        Raises:
            PeerLost: one of them has ended.
        """
        return flag if self._gang is None else rule(await self._gang.gather(self._rank, flag))

    def _identity(self) -> str:
        """Return the downward-API volume as ``name=value`` pairs; it is read only if one of its files has changed."""
        directory = self._identity_directory
        if directory is None or not directory.is_dir():
            return "unknown"
        with os.scandir(directory) as entries:
            files = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_file())
        if files != self._identity_files:
            self._identity_files = files
            self._identity_text = " ".join(f"{name}={(directory / name).read_text().strip()}" for name, _ in files)
        return self._identity_text


def loss(seed: str, step: int) -> float:
    """Return the loss after ``step`` steps: falling, noisy, and the same for everybody with this seed."""
    noise = random.Random(f"{seed}/{step}").uniform(-0.02, 0.02)
    return 0.3 + 2.2 * math.exp(-step / 20) + noise
