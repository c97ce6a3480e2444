"""``python -m tests.chaos.year``: a year of one job, with outages of hours to weeks, losses, edits and suspensions."""

import argparse
import asyncio
import sys
import time
from collections import Counter
from datetime import timedelta
from random import Random
from typing import cast

from temporalio.api.enums.v1 import EventType

from tests.chaos.__main__ import prepare
from tests.chaos.faults import KINDS
from tests.chaos.faults.grammar import DAY, HOUR
from tests.chaos.script import Fault, Script
from tests.chaos.stage import Stage
from tests.chaos.story import Outcome, play
from tests.simulation.execution import Execution
from tests.simulation.limits import near
from tests.simulation.simulation import Simulation

SEED = 3  # a year with outages of all servers
TRAINING = 0.95  # of the time: the rest goes to losses, suspensions and the wait for machines
FIRST = 2 * DAY  # without faults, in which the actions of an hour are counted
OUTAGES, MISHAPS = 8 * DAY, 3 * DAY  # the usual time between two of them
LONGEST = {"kubernetes": DAY, "temporal": 2 * DAY}
"""The most seconds for which one of them is unreachable. Most work is done while nothing answers."""
NO_MISHAPS = {"delete", "interval", "resize", "never_ready"}  # it has to live for a year, and each day costs a second

ACTIONS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
}
"""What Temporal Cloud counts, approximately."""


def draw(days: int, seed: int) -> Script:
    """Draw what happens in so many days: outages one after the other, and mishaps in and between them."""
    rng = Random(f"year {seed}")
    lasting = {kind: each.days for kind, each in KINDS.items() if each.days}
    mishaps = {kind: each.weight for kind, each in KINDS.items() if kind not in NO_MISHAPS}
    faults: list[Fault] = []
    at = FIRST
    while at < days * DAY:
        kind = rng.choices(list(lasting), list(lasting.values()))[0]
        args = KINDS[kind].draw_long(rng)
        if "seconds" in args:
            args["seconds"] = min(int(args["seconds"]), LONGEST.get(str(args.get("what")), 14 * DAY))
        faults.append(Fault(at, kind, args))
        at = faults[-1].ends + rng.randint(HOUR, 2 * OUTAGES)
    at = FIRST
    while (at := at + rng.randint(HOUR, 2 * MISHAPS)) < days * DAY:
        kind = rng.choices(list(mishaps), list(mishaps.values()))[0]
        faults.append(Fault(at, kind, KINDS[kind].draw(rng)))
    job = {"replicas": 2, "steps": int(TRAINING * days * DAY), "interval": DAY // 2, "course": 0, "long": 4 * HOUR}
    return Script(job, sorted(faults, key=lambda fault: fault.at))


class Year:
    """Counts during a long story, so that its histories can be forgotten day by day."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()  # by type of workflow
        self.runs: Counter[str] = Counter()
        self.longest = self.largest = 0  # events and bytes of a run
        self.near: list[str] = []  # runs that came near a limit of the service
        self.idle_actions = 0.0  # of all workflows, in an hour in which nothing happens

    def begin(self, stage: Stage) -> None:
        """Count from now on."""
        self.stage, self.simulation = stage, cast(Simulation, stage.world.env)
        stage.world.clock.after(FIRST - 1, self._count_idle)
        stage.world.clock.after(DAY, self._day)

    def end(self) -> None:
        """Count what still exists."""
        for run in self.simulation.runs():
            self._count(run)

    def _day(self) -> None:
        for run in self.simulation.drop_closed():
            self._count(run)
        world = self.stage.world
        del world.calls[:-1000], world.documents.statuses[:-100]
        self.stage.calls.made.clear()
        self.stage.calls.at.clear()
        world.clock.after(DAY, self._day)

    def _count(self, run: Execution) -> None:
        kind = run.beginning.workflow_type
        self.runs[kind] += 1
        self.events[kind] += len(run.history.events)
        self.longest = max(self.longest, len(run.history.events))
        self.largest = max(self.largest, run.history.size)
        self.near += near(run)

    def _count_idle(self) -> None:
        since = self.stage.world.clock.now - timedelta(days=1)
        events = [event for run in self.simulation.runs() for event in run.history.events]
        recent = [event for event in events if event.event_time.ToDatetime(tzinfo=since.tzinfo) >= since]
        self.idle_actions = sum(event.event_type in ACTIONS for event in recent) / 24

    def __str__(self) -> str:
        runs = ", ".join(f"{kind} {count} ({self.events[kind]} events)" for kind, count in self.runs.items())
        return (
            f"runs: {runs}; the longest: {self.longest} events, the largest: {self.largest / 2**20:.1f} MiB; "
            f"actions in an idle hour: {self.idle_actions:.1f}"
        )


async def live(days: int, seed: int) -> tuple[Outcome, Year, Script]:
    """Play it to its end."""
    script, year = draw(days, seed), Year()
    outcome = await play(script, beside=year.begin)
    year.end()
    return outcome, year, script


def main() -> int:
    """Play the year, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.year", description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    prepare()
    began = time.process_time()
    outcome, year, script = asyncio.run(live(given.days, given.seed))
    lived = outcome.stage.world.clock.now - outcome.stage.ledger.began
    print(script if outcome.violations else f"{len(script.faults)} faults", *outcome.violations, sep="\n")
    print(f"{outcome.result} after {lived.days} days; {year}; {time.process_time() - began:.0f} s of computing")
    return 1 if outcome.violations or year.near else 0


if __name__ == "__main__":
    sys.exit(main())
