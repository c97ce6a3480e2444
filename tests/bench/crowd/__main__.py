"""``python -m tests.bench.crowd 10 30``: measure crowds of so many jobs, each on a sandbox of its own, beside floors.

Nodes, kubelets and the checkpoint operator are played, so that Outlast, Temporal and the API server are measured. What
happens in a crowd, in this order: it starts; it idles; some notices come one by one; the bridge restarts; notices come
to all others at once; Outlast is stopped, and bare workflows do the same for comparison.

``--without`` leaves steps out. ``--beside 300`` has 300 VMs join and 300 replicas look for a VM in vain during the
storm. ``--workers 3`` runs three worker processes, and ``--service postgresql`` Temporal's server for production, on
PostgreSQL (``make service`` builds it). ``--write crowd`` puts the table and its plots between the marks of that name
in docs/benchmarks.md, together with the crowds that an earlier run wrote with ``--json`` (``--earlier FILE``).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sandbox.settings import TEMPORAL_SERVICES
from tests.bench.crowd import floor
from tests.bench.crowd.actions import per_workflow
from tests.bench.crowd.figures import KINDS, Figures, as_json, from_json, in_order, table
from tests.bench.crowd.notices import singles, storm, trained_by
from tests.bench.crowd.page import TABLES, write
from tests.bench.crowd.restart import restart
from tests.bench.crowd.seekers import TIMINGS, seek
from tests.bench.crowd.stage import NAMESPACE, Stage, say, stage
from tests.bench.crowd.waypoints import medians
from tests.bench.program import run

STEPS = ("idle", "singles", "restart", "storm", "floors", "start-floor")
START_SECONDS = 7200.0
SETTLE_SECONDS = 15.0
CONTROLLERS_SECONDS = 35.0
"""Kubernetes' garbage collector looks for new CRDs every 30 s. Before it knows ours, it reads the owner of each new
object again and again. The other controllers have seen all nodes by then, too."""
SAMPLE = 20
SPARE = 10  # one node more for so many jobs
SINGLES = 100
MOST_SHARE = 5  # at most a fifth of the jobs is noticed before the storm


def main(words: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("jobs", type=int, nargs="+", help="how many jobs a crowd has")
    parser.add_argument("--without", nargs="*", default=[], choices=STEPS, help="steps to leave out")
    parser.add_argument("--beside", type=int, default=0, help="VMs that join, and replicas that look for one in vain")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds over which idle processors are measured")
    parser.add_argument("--write", choices=TABLES, help="the table of docs/benchmarks.md to write")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="worker processes; several: one crowd each")
    parser.add_argument(
        "--service", nargs="+", default=["development"], choices=TEMPORAL_SERVICES, help="Temporal's servers, likewise"
    )
    parser.add_argument("--json", type=Path, help="append one line for each crowd to this file")
    parser.add_argument("--earlier", type=Path, help="a file that --json wrote: these crowds stand in the table, too")
    options = parser.parse_args(words)
    run(_measure_all(options))
    return 0


async def _measure_all(options: Namespace) -> None:
    load = os.getloadavg()[1]
    rows = [from_json(line) for line in options.earlier.read_text().splitlines()] if options.earlier else []
    for service, workers, jobs in itertools.product(options.service, options.workers, options.jobs):
        rows = in_order([*rows, found := await _measure(Figures(jobs, workers, service), options)])
        print(as_json(found), flush=True)
        if options.json:
            with options.json.open("a") as file:
                file.write(as_json(found) + "\n")
        if options.write:  # after each crowd: the large ones take long, and may be ended
            write(options.write, rows, load)
    print(table(rows))


async def _measure(figures: Figures, options: Namespace) -> Figures:
    jobs = figures.jobs
    steps = set(STEPS) - set(options.without)
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as directory:
        environment = TIMINGS if options.beside else {}
        async with stage(Path(directory) / "cloud", environment, figures.workers, figures.service) as here:
            await _start(here, jobs, figures)
            if "idle" in steps:
                await _idle(here, options.idle, figures)
            left = sorted(trained_by(here))
            if "singles" in steps:
                left = await _singles(here, left, figures)
            if "restart" in steps:
                left = await _restart(here, left, figures)
            if "storm" in steps:
                await _storm(here, left, options.beside, figures)
            if "floors" in steps:
                await _floors(here, jobs if "start-floor" in steps else 0, figures)
    return figures


async def _start(here: Stage, jobs: int, figures: Figures) -> None:
    names = [f"train-{number:06}" for number in range(jobs)]
    # Some more than needed: who finds the last one taken would wait for a checkpoint's image, which nobody makes here.
    await here.nodes(2 * jobs + max(2, jobs // SPARE))
    await asyncio.sleep(CONTROLLERS_SECONDS)
    say(f"{jobs} jobs start")
    before = here.spent()
    creating = asyncio.create_task(here.jobs(names))
    all_run = f"{2 * jobs} replicas to run"
    figures.start = await here.until(lambda: here.players.running() >= 2 * jobs + 2, START_SECONDS, all_run)
    figures.start_spent = dict(here.spent() - before)
    await creating
    await asyncio.sleep(SETTLE_SECONDS)
    counted = await per_workflow(here.temporal, [f"{NAMESPACE}/{name}" for name in names[:: -(-jobs // SAMPLE)]])
    say(f"actions of a start: {dict(counted)}")
    figures.start_actions = counted.total()
    now = here.memory()
    figures.megabytes = {kind: now[kind] for kind in KINDS}


async def _idle(here: Stage, seconds: float, figures: Figures) -> None:
    before = here.spent()
    await asyncio.sleep(seconds)
    after = here.spent()
    figures.idle_cores = {kind: (after[kind] - before[kind]) / 1000 / seconds for kind in KINDS}


async def _singles(here: Stage, jobs: list[str], figures: Figures) -> list[str]:
    """Notify some; return the others."""
    count = min(SINGLES, max(1, len(jobs) // MOST_SHARE))
    say(f"{count} notices, one by one")
    answers = await singles(here, jobs[:count])
    figures.singles, figures.single_p50, figures.single_p99 = count, answers.at(0.5), answers.at(0.99)
    return jobs[count:]


async def _restart(here: Stage, jobs: list[str], figures: Figures) -> list[str]:
    """Notify some while no bridge runs; return the others."""
    count = min(SINGLES, max(1, len(jobs) // MOST_SHARE))
    say(f"the bridge restarts with {count} notices waiting")
    found = await restart(here, jobs[:count])
    figures.restart, figures.restart_messages = found.matched, found.messages
    figures.restart_noticed, figures.restart_notice_last = count, found.answered
    return jobs[count:]


async def _storm(here: Stage, jobs: list[str], beside: int, figures: Figures) -> None:
    if beside:
        say(f"{beside} VMs join, {beside} replicas look for one in vain")
        await seek(here, beside)
    say(f"{len(jobs)} notices at once")
    answers = await storm(here, jobs)
    figures.storm_marked, figures.storm_beside = answers.marked, beside
    figures.storm_lost, figures.storm_doubled = answers.lost, answers.doubled
    figures.storm_p50, figures.storm_last, figures.storm_spent = answers.at(0.5), answers.last, dict(answers.spent)
    if way := await medians(here.temporal, answers.marked_at):
        figures.storm_way = asdict(way)


async def _floors(here: Stage, jobs: int, figures: Figures) -> None:
    await here.stop_outlast()
    async with floor.bare(here):
        if figures.storm_marked:
            say(f"the floor of {figures.storm_marked} notices")
            answers = await floor.storm(here, figures.storm_marked)
            figures.storm_floor_p50, figures.storm_floor_last = answers.at(0.5), answers.last
            figures.storm_floor_spent = dict(answers.spent)
        if figures.start_actions and jobs:
            say(f"the floor of {jobs} starts")
            before = here.spent()
            figures.start_floor = await floor.start(here, jobs, round(figures.start_actions))
            figures.start_floor_spent = dict(here.spent() - before)


if __name__ == "__main__":
    sys.exit(main())
