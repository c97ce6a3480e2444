"""``python -m tests.chaos``: the whole crash matrix, then random schedules; each violation is printed with its script.

The seeds are SEED, SEED + 1, …: the number that is printed for a failure is the SEED that plays it again by itself.
"""

import argparse
import asyncio
import gc
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count, islice

from tests.chaos.crashes import Crash, matrix, strike
from tests.chaos.schedules import draw, shrunk
from tests.chaos.script import Script
from tests.chaos.story import Outcome, play

EACH = 50  # runs between two lines of progress
LONGEST_TOLD = 4000  # characters


@dataclass
class Ran:
    """What is kept of one run."""

    label: str
    result: str
    violations: list[str]
    script: Script | None = None


def crash(one: Crash) -> Ran:
    """Play one cell of the matrix."""
    return _ran(str(one), asyncio.run(strike(one)), None)


def schedule(seed: int) -> Ran:
    """Play one random schedule."""
    script = draw(seed)
    ran = _ran(f"SEED={seed}", asyncio.run(play(script)), script)
    if "long" in script.job:
        gc.collect()  # of hundreds of megabytes of histories
    return ran


def is_gang(seed: int) -> bool:
    """True if the schedule of this seed is one of a gang."""
    return "gang" in draw(seed).job


def _ran(label: str, outcome: Outcome, script: Script | None) -> Ran:
    return Ran(label, outcome.result, outcome.violations, script if outcome.violations else None)


def main() -> int:
    """Play everything, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--runs", type=int, default=1000, help="so many schedules (default: 1000)")
    parser.add_argument("--jobs", type=int, default=2, help="so many processes at once (default: 2)")
    parser.add_argument("--no-crashes", action="store_true", help="the schedules alone")
    parser.add_argument("--gangs", action="store_true", help="of the schedules only those of gangs")
    given = parser.parse_args()
    prepare()
    crashes = [] if given.no_crashes else asyncio.run(matrix())
    seeds = list(islice((seed for seed in count(given.seed) if not given.gangs or is_gang(seed)), given.runs))
    print(
        f"{len(crashes)} crashes of the demo's story, then the seeds {given.seed} … {max(seeds, default=given.seed)}",
        flush=True,
    )
    began = time.monotonic()
    with ProcessPoolExecutor(given.jobs, initializer=prepare) as pool:
        bad = list(_watched(pool.map(crash, crashes), len(crashes), "crashes"))
        bad += _watched(pool.map(schedule, seeds), given.runs, "schedules")
    for ran in [ran for ran in bad if ran.script]:
        print(f"\n{ran.label}, shortened:\n{asyncio.run(_shortened(ran))}")
    runs = len(crashes) + given.runs
    points = len({(one.story, one.point) for one in crashes})
    print(
        f"\npoints killed: {points} (each before its effect, after it, and twice); schedules: {given.runs}; "
        f"runs: {runs}; violations: {len(bad)}; {time.monotonic() - began:.0f} s"
    )
    return 1 if bad else 0


def _watched(runs: Iterable[Ran], total: int, what: str) -> Iterator[Ran]:
    """Pass on the runs with a violation, which are printed at once, and print the progress."""
    for done, ran in enumerate(runs, 1):
        if ran.violations:
            print(f"\nVIOLATION in {ran.label}, which ended as {ran.result or 'nothing'}:")
            print("\n".join(violation[-LONGEST_TOLD:] for violation in ran.violations), flush=True)
            yield ran
        if done % EACH == 0 or done == total:
            print(f"{done} of {total} {what}", flush=True)


async def _shortened(ran: Ran) -> Script:
    async def fails(script: Script) -> bool:
        return bool((await play(script)).violations)

    assert ran.script is not None
    return await shrunk(ran.script, fails)


def prepare() -> None:
    """Silence the log of failures, which are part of the stories."""
    logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)
    gc.set_threshold(50_000)


if __name__ == "__main__":
    sys.exit(main())
