"""`python -m tests.bench.gang`: a gang loses a machine with a notice, by its size; writes docs/benchmarks.md.

Small gangs train on light machines of a sandbox with Outlast, where requests and the API server's answers take
the time that they take. All sizes are played on virtual time, to count what Outlast calls: each of its activities
makes a request or two, to the cloud or to the API server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass

from temporalio.contrib.pydantic import pydantic_data_converter

from api.gang import LARGEST
from sandbox.demo.trainings import Training
from tests.bench.page import where, write
from tests.bench.program import run
from tests.bench.rounds import NOTICE_SECONDS, sandbox
from tests.e2e.gangs import Members
from tests.e2e.rig import CREDENTIALS, Rig, machine
from tests.e2e.test_saves_itself import application
from tests.simulation.simulation import Simulation
from tests.workflows.test_gang import again, training
from tests.workflows.world import World

TABLE = "gang"
MEASURED = (2, 4, 8)
PLAYED = (2, 4, 8, 16, 32, 64, 256)
ROUNDS = 3
VMS = {"create_vm", "observe_create", "observe_vm", "start_join", "observe_join", "observe_node", "delete_vm"}
"""Activities that are about machines."""


@dataclass(frozen=True)
class Round:
    """One preemption: seconds from the notice to each moment."""

    saved: float
    stopped: float
    trains: float


@dataclass(frozen=True)
class Played:
    """One preemption on virtual time: the activities until all train again."""

    of_start: int
    of_recovery: Counter[str]


def main() -> int:
    """Measure, write the page, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gang", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="preemptions of each gang; 0: only count")
    rounds, load = parser.parse_args().rounds, os.getloadavg()[1]
    played = {size: asyncio.run(_play(size)) for size in PLAYED if size <= LARGEST}
    measured = run(_measure(rounds)) if rounds else {}
    table = _table(measured, played, load)
    write(TABLE, table)
    print(table)
    return 0


async def _play(size: int) -> Played:
    world = World(Simulation(pydantic_data_converter))
    async with world.worker():
        await training(world, members=size)
        of_start = len(world.calls)
        world.notice(0, member=size - 1)
        await again(world)
        return Played(of_start, Counter(call.name for call in world.calls[of_start:]))


async def _measure(count: int) -> dict[int, list[Round]]:
    async with sandbox() as rig:
        return {size: await _rounds(rig, size, count) for size in MEASURED}


async def _rounds(rig: Rig, size: int, count: int) -> list[Round]:
    namespace = await rig.namespace()
    manifest = application(rig, SANDBOX_STEPS=10**6, SANDBOX_SAVE_EVERY=10**6)
    manifest["spec"]["gang"] = {"minSize": size, "maxSize": size}
    members = Members(await rig.start(namespace, manifest))
    rounds = []
    for incarnation in range(count):
        rounds.append(await _round(rig, members, incarnation, size))
        print(f"{size} members, {incarnation + 1}/{count}: {rounds[-1]}", file=sys.stderr)
    await rig.delete(namespace, CREDENTIALS, machine(), manifest)
    return rounds


async def _round(rig: Rig, members: Members, incarnation: int, size: int) -> Round:
    """Preempt one member's machine, and wait until all train again."""
    before = await members.train(incarnation, size)
    vm = members.machines(incarnation)[size - 1]
    saved = asyncio.create_task(_saved(rig, members, before))
    await rig.control.preempt(vm, NOTICE_SECONDS)
    after = await members.train(incarnation + 1, size)
    notice = rig.observer.happened("notice", vm) or 0.0
    names = {each.pod for each in before}
    ends = [
        each.at
        for each in rig.observer.history
        if each.kind == "pods" and each.name in names and each.object["status"]["phase"] in {"Failed", "Succeeded"}
    ]
    return Round(await saved - notice, max(ends) - notice, max(each.began for each in after) - notice)


async def _saved(rig: Rig, members: Members, trainings: list[Training]) -> float:
    """Return when the last member says that it has saved itself."""
    said = lambda: all(any(line.startswith("saved ") for line in each.lines) for each in trainings)  # noqa: E731
    await members.job.until(said, 120, "the saves of all members")
    return time.time()


def _table(measured: dict[int, list[Round]], played: dict[int, Played], load: float) -> str:
    sizes = list(played)
    lines = [f"| members | {' | '.join(map(str, sizes))} |", "|---|" + "---:|" * len(sizes)]

    def row(name: str, cells: dict[int, str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells.get(size, '') for size in sizes)} |")

    for name, read in {
        "seconds from the notice until all have saved themselves": lambda each: each.saved,
        "until all pods have stopped": lambda each: each.stopped,
        "**until all train again**, one machine replaced": lambda each: each.trains,
    }.items():
        if measured:
            row(name, {size: f"{statistics.median(map(read, rounds)):.2f}" for size, rounds in measured.items()})
    row("activities of a start", {size: str(each.of_start) for size, each in played.items()})
    row("activities of a recovery", {size: str(sum(each.of_recovery.values())) for size, each in played.items()})
    row(
        "of which about machines",
        {size: str(sum(each.of_recovery[name] for name in VMS)) for size, each in played.items()},
    )
    rounds = len(next(iter(measured.values()), []))
    medians = "one preemption of each" if rounds == 1 else f"medians of {rounds} each"
    seconds = f"{medians}, on {where()}; load {load:.1f} just before" if rounds else "seconds were not measured"
    return "\n".join([*lines, "", f"{time.strftime('%Y-%m-%d')}; {seconds}; `python -m tests.bench.gang`."])


if __name__ == "__main__":
    sys.exit(main())
