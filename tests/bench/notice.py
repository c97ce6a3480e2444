"""`python -m tests.bench.notice`: from a notice to the survivor's CheckpointBackup; writes docs/benchmarks.md.

Twenty times one of two replicas loses its VM in a sandbox with Outlast. The notice precedes the shutdown of the machine
by three seconds, so that it is the notice alone that is acted on. Every moment is that of an arrival at a watcher
of the API server, so each figure includes the way there.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from sandbox.demo.observer import Change
from tests.bench.page import percentile, where, write
from tests.bench.program import run
from tests.bench.rounds import measured, preempt, sandbox
from tests.e2e.rig import Running

ROUNDS = 20
TAINT = "training.dcnlab.com/preempted"
TABLE = "notice"


@dataclass(frozen=True)
class Round:
    """One preemption: seconds from the notice to each moment."""

    tainted: float
    asked: float
    completed: float
    trains: float


def main() -> int:
    """Measure, write the page, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.notice", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = run(_measure(parser.parse_args().rounds))
    write(TABLE, _table(rounds))
    print(_table(rounds))
    return 0


async def _measure(count: int) -> list[Round]:
    async with sandbox() as rig:
        return await measured(rig, "", count, _round)


async def _round(job: Running, lost: int) -> Round:
    """Preempt one replica's VM, and wait until the replica trains again."""
    seen = await preempt(job, lost)
    return Round(
        tainted=next(each.at for each in seen.history if _is_tainted(each, seen.vm)) - seen.notice,
        asked=job.observer.first_seen(seen.backup) - seen.notice,
        completed=seen.completed - seen.notice,
        trains=seen.after.began - seen.notice,
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
        p50, p99 = (percentile(seconds, share) for share in (0.5, 0.99))
        lines.append(f"| {name} | {p50:.2f} | {p99:.2f} | {max(seconds):.2f} |")
    return "\n".join(
        [*lines, "", f"{len(rounds)} preemptions, {time.strftime('%Y-%m-%d')}, on {where()}; `make bench`."]
    )


if __name__ == "__main__":
    sys.exit(main())
