"""``make chaos-real``: the story again and again in one sandbox, while processes are ended and servers go away.

It prints the points at which processes were ended, the runs, and the violations, and exits with 1 if there are any. A
point is an activity of the worker, or an event or a message of the bridge, in a mode. Those that no run has hit yet
come first.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.real_time import outages, pairs, story
from tests.chaos.real_time.books import credentials
from tests.chaos.real_time.house import SERVERS, House
from tests.chaos.real_time.plan import MODES, Call, Plan
from tests.e2e.rig import Running


def main() -> int:
    """Run, and return the exit code."""
    arguments = _arguments()
    for name in ("asyncio", "aiohttp.server"):  # sockets that the end of a process has closed
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="outlast-chaos-") as directory:
        return asyncio.run(_interruptible(Path(directory) / "sandbox", arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.real_time", description=__doc__)
    parser.add_argument("--gap", type=int, default=6, help="calls between two points (default 6)")
    parser.add_argument("--runs", type=int, default=4, help="runs in which the worker ends at its calls (default 4)")
    parser.add_argument("--events", type=int, default=0, help="runs in which the bridge ends at its events (default 0)")
    parser.add_argument("--pairs", type=int, default=0, help="runs with two of both, one of each killed (default 0)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which these are killed (default 1)")
    parser.add_argument("--servers", nargs="*", default=[], choices=SERVERS, help="restart each at every chapter")
    parser.add_argument("--outages", nargs="*", default=[], choices=list(outages.OUTAGES), help="ten minutes of each")
    parser.add_argument("--seconds", type=float, default=outages.SECONDS, help="real ones, of an outage (default 30)")
    return parser.parse_args()


async def _interruptible(state_dir: Path, arguments: argparse.Namespace) -> int:
    """Run to the end, or until Ctrl-C or SIGTERM. The sandbox is taken down in either case."""
    task = asyncio.ensure_future(_run(state_dir, arguments))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 130


async def _run(state_dir: Path, arguments: argparse.Namespace) -> int:
    house, violations = House(state_dir, replicas=2 if arguments.pairs else 1), list[str]()
    try:
        await house.up()
        violations += await _points(house, "worker", arguments.runs, arguments.gap)
        violations += await _points(house, "bridge", arguments.events, arguments.gap)
        violations += await _pairs(house, arguments.pairs, random.Random(arguments.seed))
        for server in arguments.servers:
            violations += await _restarts(house, server)
        for outage in arguments.outages:
            found = await outages.endure(house, outage, arguments.seconds)
            print(f"{arguments.seconds:.0f} s of {outage}: {found or 'held'}", flush=True)
            violations += [f"{outage}: {each}" for each in found]
        violations += await credentials(house)
    finally:
        await house.down()
    for violation in violations:
        print(f"VIOLATION {violation}")
    return 1 if violations else 0


async def _points(house: House, process: str, runs: int, gap: int) -> list[str]:
    plan, violations = Plan(house.plans[process]), list[str]()
    for number in range(runs):
        plan.order(number, gap)
        told = await story.run(house, f"{process}-{number}")
        plan.order(number, 0)
        violations += [f"run {number}: {each}" for each in told.violations]
        calls = [call for call in plan.calls() if call.run == number]
        points = len([call for call in calls if call.mode])
        print(f"{process}, run {number}: {len(calls)} calls, {points} points, {told.violations or 'held'}", flush=True)
    if not runs:
        return []
    _tell(plan.calls())
    points = len([call for call in plan.calls() if call.mode])
    print(f"{process}: {points} points killed, {runs} runs, {len(violations)} violations", flush=True)
    return violations


def _tell(calls: list[Call]) -> None:
    hits = Counter((call.activity, call.mode) for call in calls)
    for activity in sorted({call.activity for call in calls}):
        print(f"  {activity:32} " + "  ".join(f"{mode} {hits[activity, mode]}" for mode in MODES))


async def _pairs(house: House, runs: int, dice: random.Random) -> list[str]:
    violations = list[str]()
    for number in range(runs):
        told, losses = await pairs.tell(house, f"pairs-{number}", dice)
        violations += [f"pairs, run {number}: {each}" for each in told.violations]
        gaps = ", ".join(f"{gap:.1f}" for gap in sorted(losses.gaps))
        print(f"pairs, run {number}: {losses.killed} processes killed, nobody acted for {gaps} s", end=": ")
        print(told.violations or "held", flush=True)
    return violations


async def _restarts(house: House, server: str) -> list[str]:
    async def restart(_: Running) -> None:
        await house.restart(server)

    told = await story.run(house, f"without-{server.replace('kube-', '')}", restart)
    print(f"{server} restarted in {len(told.chapters)} chapters: {told.violations or 'held'}", flush=True)
    return [f"{server}: {each}" for each in told.violations]


if __name__ == "__main__":
    sys.exit(main())
