"""`python -m tests.bench`: from a preemption notice to the survivor's CheckpointBackup; writes docs/benchmarks.md.

Twenty times one of two replicas loses its VM in a sandbox with Outlast. The notice precedes the shutdown of the machine
by three seconds, so that it is the notice alone that is acted on. Every moment is that of an arrival at a watcher
of the API server, so each figure includes the way there.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sandbox.demo.observe import Change
from tests.e2e.rig import CREDENTIALS, REPOSITORY, Rig, Running, machine

T = TypeVar("T")

ROUNDS = 20
SPEED = 20.0
NOTICE_SECONDS = 33.0  # the machine is shut down 30 s before its end, whatever the notice
TAINT = "training.dcnlab.com/preempted"
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
TABLE = "notice"


@dataclass(frozen=True)
class Round:
    """One preemption: seconds from the notice to each moment."""

    tainted: float
    asked: float
    completed: float
    trains: float


def main() -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = run(_measure(parser.parse_args().rounds))
    write(TABLE, _table(rounds))
    print(_table(rounds))
    return 0


def run(measuring: Coroutine[Any, Any, T]) -> T:
    """Measure. SIGTERM cancels, as Ctrl-C does, so that no sandbox is left up."""

    async def until_terminated() -> T:
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await measuring

    try:
        return asyncio.run(until_terminated())
    except asyncio.CancelledError:
        sys.exit("not measured: terminated")


async def _measure(count: int) -> list[Round]:
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as directory:
        rig = Rig(Path(directory) / "cloud", SPEED, {"OUTLAST_TIMING_SCHEDULE_WAIT": "3", "OUTLAST_TIMING_DRAIN": "10"})
        try:
            await rig.up()
            namespace = await rig.namespace()
            manifest = rig.job("bench", interval="1h", SANDBOX_STEPS=10**6)
            job = await rig.start(namespace, manifest)
            rounds = []
            for number in range(count):
                rounds.append(await _preempt(job, number % 2))
                print(f"{number + 1}/{count}: {rounds[-1]}", file=sys.stderr)
            await rig.delete(namespace, CREDENTIALS, machine(), manifest)
            return rounds
        finally:
            await rig.down()


async def _preempt(job: Running, lost: int) -> Round:
    """Take one replica's VM, and wait until the replica trains again."""
    before, survivor = job.training(lost), job.training(1 - lost)
    began = time.time()
    [vm] = await job.preempt(lost, notice=NOTICE_SECONDS)
    [backup] = await job.until(lambda: job.completed_backups(survivor.pod, began), 60, "the survivor's checkpoint")
    completed = time.time()
    await job.trains(lost, but=(before,))
    history = [each for each in job.observer.history if each.at >= began]
    notice = job.observer.happened("notice", vm) or 0.0
    # A dump younger than it took would be good enough, and none asked for: let it grow old.
    await asyncio.sleep(2 * (completed - began))
    return Round(
        tainted=next(each.at for each in history if _is_tainted(each, vm)) - notice,
        asked=job.observer.first_seen(backup) - notice,
        completed=completed - notice,
        trains=job.training(lost).began - notice,
    )


def _is_tainted(change: Change, node: str) -> bool:
    taints = change.object.get("spec", {}).get("taints") or []
    return change.kind == "nodes" and change.name == node and any(each["key"] == TAINT for each in taints)


def _table(rounds: list[Round]) -> str:
    moments = {
        "the node agent's taint on the Node": [each.tainted for each in rounds],
        "**the survivor's CheckpointBackup accepted by the API server**": [each.asked for each in rounds],
        "its image in the registry": [each.completed for each in rounds],
        "the lost replica trains again on a new VM": [each.trains for each in rounds],
    }
    lines = ["| seconds from the notice to | p50 | p99 | max |", "|---|---:|---:|---:|"]
    for name, seconds in moments.items():
        p50, p99 = (_percentile(seconds, share) for share in (0.5, 0.99))
        lines.append(f"| {name} | {p50:.2f} | {p99:.2f} | {max(seconds):.2f} |")
    return "\n".join(
        [*lines, "", f"{len(rounds)} preemptions, {time.strftime('%Y-%m-%d')}, on {where()}; `make bench`."]
    )


def _percentile(values: list[float], share: float) -> float:
    """By linear interpolation between the two nearest ranks."""
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))


def write(name: str, table: str) -> None:
    """Put a table between its marks in docs/benchmarks.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = DOCUMENT.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    DOCUMENT.write_text(f"{head}{begin}\n{table}\n{end}{tail}")


def where() -> str:
    """What it was measured on."""
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
