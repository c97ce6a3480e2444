"""`python -m tests.bench.real`: the same way on real machines, by the size of the state; writes docs/benchmarks.md.

Two replicas train with so many megabytes in memory. One loses its machine; the other is dumped by CRIU, pushed, and its
image restored on a new machine. Ours is what lies between an end and the next beginning: from the notice to the request
for the checkpoint, and from image, sound Node and the lost pod's end to the new Job.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

from sandbox.demo.observer import Json, holds
from sandbox.machines.real.requirements import obstacle
from tests.bench.page import where, write
from tests.bench.program import run
from tests.bench.rounds import measured, preempt, sandbox
from tests.e2e.rig import Running

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
    """The end of the lost pod: nobody trains twice."""
    ready: float
    """When the new Node is Ready with its GPU, which the validator has checked."""
    created: float
    """When the clone's pod is created."""
    trains: float

    @property
    def ours(self) -> float:
        """Sum up what Outlast took."""
        return self.asked + self.created - max(self.pushed, self.stopped, self.ready)


def main() -> int:
    """Measure, write the page, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real", description=__doc__)
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
    async with sandbox("real", UP_SECONDS) as rig:
        return {size: await measured(rig, f"{size} MB, ", count, _round, SANDBOX_BALLAST_MB=size) for size in MEGABYTES}


async def _round(job: Running, lost: int) -> Round:
    # An agent listens on every node, once its image has been pulled.
    agents = ("rollout", "status", "daemonset/outlast-agent", "-n", "outlast-system", "--timeout=90s")
    await job.rig.kubectl(*agents, deadline=100)
    seen = await preempt(job, lost, seconds=300)
    node = job.vm(lost)

    def first(kind: str, is_it: Any, is_so: Any = lambda _: True) -> float:
        mine = (each for each in seen.history if each.kind == kind and is_it(each.object))
        return next(each.at for each in mine if is_so(each.object) or each.type == "DELETED") - seen.notice

    def called(name: str) -> Any:
        return lambda each: each["metadata"]["name"] == name

    def phase(*wanted: str) -> Any:
        return lambda each: (each.get("status") or {}).get("phase") in wanted

    def is_validator(pod: Json) -> bool:
        return bool(pod["spec"].get("nodeName") == node and pod["metadata"]["labels"].get("app") == VALIDATOR)

    of_backup = called(seen.backup["metadata"]["name"])
    has_gpu = first("nodes", called(node), lambda node: "nvidia.com/gpu" in node["status"].get("allocatable", {}))
    return Round(
        asked=first("checkpointbackups", of_backup),
        dumped=first("checkpointbackups", of_backup, phase(*AFTER_THE_DUMP)),
        pushed=first("checkpointbackups", of_backup, phase("Completed")),
        stopped=first("pods", called(seen.before.pod), phase("Failed", "Succeeded")),
        ready=max(has_gpu, first("pods", is_validator, lambda pod: holds(pod, "Ready"))),
        created=first("pods", called(seen.after.pod)),
        trains=seen.after.began - seen.notice,
    )


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
