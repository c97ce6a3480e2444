"""The rounds of a benchmark: again and again one of two replicas loses its machine, in a sandbox with Outlast."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sandbox.demo.observer import Change, Json
from sandbox.demo.trainings import Training
from sandbox.settings import MachineKind
from tests.e2e.rig import CREDENTIALS, UP_SECONDS, Rig, Running, machine

SPEED = 20.0
TIMINGS = {"OUTLAST_TIMING_SCHEDULE_WAIT": "3", "OUTLAST_TIMING_DRAIN": "10"}
NOTICE_SECONDS = 33.0
"""The machine is shut down 30 s before its end, whatever the notice, so this notice precedes that by 3 s."""

Round = TypeVar("Round")


@dataclass(frozen=True)
class Preemption:
    """What was seen of one preemption, until the lost replica trained again.

    Attributes:
        notice: when the machine was given notice.
        vm: the machine.
        backup: the survivor's CheckpointBackup.
        completed: when that was seen to be complete.
        before: the training that was lost.
        after: the one that goes on in its place.
        history: what the API server told meanwhile.
    """

    notice: float
    vm: str
    backup: Json
    completed: float
    before: Training
    after: Training
    history: list[Change]


@asynccontextmanager
async def sandbox(machines: MachineKind = "light", seconds: float = UP_SECONDS) -> AsyncIterator[Rig]:
    """Have a sandbox up while this is open; it may take so many seconds to come up."""
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as directory:
        rig = Rig(Path(directory) / "cloud", SPEED, TIMINGS, machines=machines)
        try:
            await rig.up(seconds)
            yield rig
        finally:
            await rig.down()


async def measured(
    rig: Rig, name: str, count: int, measure: Callable[[Running, int], Awaitable[Round]], **environment: Any
) -> list[Round]:
    """Measure so many rounds of one job. Its replicas, which get this ``environment``, lose their machines in turn."""
    namespace = await rig.namespace()
    manifest = rig.job("bench", interval="1h", SANDBOX_STEPS=10**6, **environment)
    job = await rig.start(namespace, manifest)
    rounds = []
    for number in range(count):
        rounds.append(await measure(job, number % 2))
        print(f"{name}{number + 1}/{count}: {rounds[-1]}", file=sys.stderr)
    await rig.delete(namespace, CREDENTIALS, machine(), manifest)
    return rounds


async def preempt(job: Running, lost: int, seconds: float = 120) -> Preemption:
    """Preempt one replica's VM, and wait until the survivor has a checkpoint and the replica trains again.

    Each may take so many seconds. Then comes a pause: a dump younger than it took would be good enough, so none would
    be requested in the next round.
    """
    before, survivor = job.training(lost), job.training(1 - lost)
    began = time.time()
    [vm] = await job.preempt(lost, notice=NOTICE_SECONDS)
    backups = await job.until(lambda: job.completed_backups(survivor.pod, began), seconds, "the survivor's checkpoint")
    completed = time.time()
    await job.trains(lost, but=(before,), seconds=seconds)
    seen = Preemption(
        notice=job.observer.happened("notice", vm) or 0.0,
        vm=vm,
        backup=backups[0],
        completed=completed,
        before=before,
        after=job.training(lost),
        history=[each for each in job.observer.history if each.at >= began],
    )
    await asyncio.sleep(2 * (completed - began))
    return seen
