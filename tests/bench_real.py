"""`python -m tests.bench_real`: the same way on real machines, by the size of the state; writes docs/benchmarks.md.

Two replicas train with so many megabytes in memory. One loses its machine; the other is dumped by CRIU, pushed, and its
image restored on a new machine. Ours is what lies between an end and the next beginning: from the notice to the request
for the checkpoint, and from image, sound Node and the lost pod's end to the new Job.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.demo.observe import Json, holds
from sandbox.machines.real.requirements import obstacle
from tests.bench import NOTICE_SECONDS, run, where, write
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

MEGABYTES = (64, 1024)
ROUNDS = 4
UP_SECONDS = 900.0
VALIDATOR = "nvidia-operator-validator"
AFTER_THE_DUMP = ("Checkpointed", "ImageBuilding", "ImageBuilt", "ImagePushing")


@dataclass(frozen=True)
class Round:
    """One preemption: seconds from the notice to each moment."""

    asked: float
    dumped: float
    pushed: float
    stopped: float
    """The lost pod: nobody trains twice."""
    ready: float
    """The new Node with its GPU, which the validator has found sound."""
    created: float
    """The clone's pod."""
    trains: float

    @property
    def ours(self) -> float:
        """What Outlast took."""
        return self.asked + self.created - max(self.pushed, self.stopped, self.ready)


def main() -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench_real", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    if reason := obstacle():
        print(f"not measured: {reason}", file=sys.stderr)
        return 0
    arguments = parser.parse_args()
    before = os.getloadavg()[1]
    table = _table(run(_measure(arguments.rounds)), before)
    write("real", table)
    print(table)
    return 0


async def _measure(count: int) -> dict[int, list[Round]]:
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as directory:
        timings = {"OUTLAST_TIMING_SCHEDULE_WAIT": "3", "OUTLAST_TIMING_DRAIN": "10"}
        rig = Rig(Path(directory) / "cloud", 20.0, timings, machines="real")
        try:
            await rig.up(UP_SECONDS)
            return {size: await _measure_size(rig, size, count) for size in MEGABYTES}
        finally:
            await rig.down()


async def _measure_size(rig: Rig, megabytes: int, count: int) -> list[Round]:
    namespace = await rig.namespace()
    manifest = rig.job("bench", interval="1h", SANDBOX_STEPS=10**6, SANDBOX_BALLAST_MB=megabytes)
    job = await rig.start(namespace, manifest)
    rounds = []
    for number in range(count):
        rounds.append(await _preempt(job, number % 2))
        print(f"{megabytes} MB, {number + 1}/{count}: {rounds[-1]}", file=sys.stderr)
    await rig.delete(namespace, CREDENTIALS, machine(), manifest)
    return rounds


async def _preempt(job: Running, lost: int) -> Round:
    # An agent listens on every node, once its image is there.
    agents = ("rollout", "status", "daemonset/outlast-agent", "-n", "outlast-system", "--timeout=90s")
    await job.rig.kubectl(*agents, deadline=100)
    before, survivor = job.training(lost), job.training(1 - lost)
    began = time.time()
    [vm] = await job.preempt(lost, notice=NOTICE_SECONDS)
    notice = job.observer.happened("notice", vm) or 0.0
    backups = await job.until(lambda: job.completed_backups(survivor.pod, began), 300, "the survivor's checkpoint")
    await job.trains(lost, but=(before,), seconds=300)
    after = job.training(lost)
    history = [each for each in job.observer.history if each.at >= began]

    def first(kind: str, is_it: Any, is_so: Any = lambda _: True) -> float:
        mine = (each for each in history if each.kind == kind and is_it(each.object))
        return next(each.at for each in mine if is_so(each.object) or each.type == "DELETED") - notice

    def called(name: str) -> Any:
        return lambda each: each["metadata"]["name"] == name

    def phase(*wanted: str) -> Any:
        return lambda each: (each.get("status") or {}).get("phase") in wanted

    def is_validator(pod: Json) -> bool:
        return bool(pod["spec"].get("nodeName") == job.vm(lost) and pod["metadata"]["labels"].get("app") == VALIDATOR)

    of_backup = called(backups[0]["metadata"]["name"])
    has_gpu = first(
        "nodes", called(job.vm(lost)), lambda node: "nvidia.com/gpu" in node["status"].get("allocatable", {})
    )
    moments = Round(
        asked=first("checkpointbackups", of_backup),
        dumped=first("checkpointbackups", of_backup, phase(*AFTER_THE_DUMP)),
        pushed=first("checkpointbackups", of_backup, phase("Completed")),
        stopped=first("pods", called(before.pod), phase("Failed", "Succeeded")),
        ready=max(has_gpu, first("pods", is_validator, lambda pod: holds(pod, "Ready"))),
        created=first("pods", called(after.pod)),
        trains=after.began - notice,
    )
    await asyncio.sleep(2 * moments.pushed)  # a dump younger than it took would do, and none be asked for
    return moments


def _table(sizes: dict[int, list[Round]], load: float) -> str:
    moments = {
        "the survivor's CheckpointBackup accepted": lambda each: each.asked,
        "its dump finished": lambda each: each.dumped,
        "its image in the registry": lambda each: each.pushed,
        "the lost pod's end": lambda each: each.stopped,
        "the new machine's Node, its GPU found sound": lambda each: each.ready,
        "the clone's pod created": lambda each: each.created,
        "**the clone's first new step**": lambda each: each.trains,
        "of which Outlast's own": lambda each: each.ours,
    }
    lines = [
        "| seconds from the notice to, median | " + " | ".join(f"{size} MB" for size in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for name, read in moments.items():
        figures = [statistics.median(map(read, rounds)) for rounds in sizes.values()]
        lines.append(f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    shares = [statistics.median(each.ours / each.trains for each in rounds) for rounds in sizes.values()]
    lines.append("| its share of the whole | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    lines.append("| preemptions | " + " | ".join(str(len(rounds)) for rounds in sizes.values()) + " |")
    busy = f"load {load:.1f} just before (average of five minutes)"
    return "\n".join([*lines, "", f"{time.strftime('%Y-%m-%d')}, on {where()}; {busy}; `make bench`."])


if __name__ == "__main__":
    sys.exit(main())
