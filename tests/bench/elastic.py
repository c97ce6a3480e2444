"""`python -m tests.bench.elastic TRACE.json …`: what an elastic gang gains on traces of spot capacity, simulated.

A trace says how many machines a zone had at each tick (`{"metadata": {"gap_seconds": 300}, "data": [4, 4, 3, …]}`), as
those of https://github.com/skypilot-org/spot-traces do. A gang trains through it three times: of a fixed size, elastic
but starting again with each machine that comes, and elastic by the product's own rules. Losses have a notice, so that
no step is lost with them. The share is that of what the whole gang would do on machines that are never lost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from api.gang import Gang
from tests.bench.page import write
from workflows.job.machines.policy.size import goes_on_smaller, largest, starts_larger

TABLE = "elastic"
STEP = 10.0  # seconds
RESTART = 120.0  # seconds from the last step to the next one
REPLACEMENT = 240.0  # seconds from the purchase of a machine to its Ready Node

Rejoins = Callable[[int, int], bool]


@dataclass
class Training:
    """A gang in one zone, and what it has made of it."""

    gang: Gang
    rejoins: Rejoins
    size: int = 0  # members that train, or are being started
    ready: int = 0  # machines that are there, whether they train or wait
    coming: list[float] = field(default_factory=list)  # when each machine that was bought is Ready
    steps_from: float = 0.0  # when the present start is done
    machine_seconds: float = 0.0
    restarts: int = 0

    def at(self, now: float, available: int) -> None:
        """Live through one step in which the zone has so many machines."""
        self._join(now)
        self._lose(now, available)
        self._buy(now, available)
        self._decide(now)
        if self.size and now >= self.steps_from:
            self.machine_seconds += self.size * STEP

    def _join(self, now: float) -> None:
        self.ready += len([at for at in self.coming if at <= now])
        self.coming = [at for at in self.coming if at > now]

    def _lose(self, now: float, available: int) -> None:
        gone = self.ready + len(self.coming) - available
        while gone > 0 and self.coming:
            self.coming.pop()
            gone -= 1
        if gone <= 0:
            return
        self.ready -= gone
        if self.ready < self.size:
            self.size = 0

    def _buy(self, now: float, available: int) -> None:
        free = min(self.gang.max_size, available) - self.ready - len(self.coming)
        self.coming += [now + REPLACEMENT] * max(0, free)

    def _decide(self, now: float) -> None:
        possible = largest(self.gang, self.ready)
        if not self.size:
            complete = len(self.coming) + self.ready >= self.gang.max_size
            left = max(self.coming, default=now) - now if complete else None
            if possible == self.gang.max_size or (possible and goes_on_smaller(RESTART, left)):
                self._start(now, possible)
        elif possible > self.size and now >= self.steps_from + RESTART and self._pays(possible):
            self._start(now, possible)

    def _pays(self, larger: int) -> bool:
        return larger == self.gang.max_size or self.rejoins(self.size, larger)

    def _start(self, now: float, size: int) -> None:
        self.size, self.steps_from, self.restarts = size, now + RESTART, self.restarts + 1


def trained(gang: Gang, trace: list[int], gap: float, rejoins: Rejoins) -> Training:
    """Train through a trace whose ticks are ``gap`` seconds apart."""
    training = Training(gang, rejoins)
    for tick in range(int(len(trace) * gap / STEP)):
        now = tick * STEP
        training.at(now, trace[int(now // gap)])
    return training


def losses_per_hour(trace: list[int], gap: float) -> float:
    """Return the losses of one machine per hour in a trace."""
    lost = sum(max(0, before - after) for before, after in pairwise(trace))
    return lost / max(sum(trace) * gap / 3600, 1.0)


def row(path: Path) -> str:
    """Train through one trace, and write a row of the table."""
    document = json.loads(path.read_text())
    trace, gap = document["data"], float(document["metadata"]["gap_seconds"])
    most = max(trace)
    elastic, fixed = Gang(min_size=max(1, most // 4), max_size=most), Gang(min_size=most, max_size=most)
    rate = losses_per_hour(trace, gap)
    runs = [
        trained(fixed, trace, gap, lambda *_: True),
        trained(elastic, trace, gap, lambda *_: True),
        trained(elastic, trace, gap, lambda size, larger: starts_larger(size, larger, RESTART, rate)),
    ]
    whole = most * len(trace) * gap
    shares = " | ".join(f"{each.machine_seconds / whole:.3f} ({each.restarts})" for each in runs)
    capacity = sum(trace) / len(trace) / most
    days = len(trace) * gap / 86400
    return f"| {path.stem} | {days:.0f} d | {most} | {rate:.2f} | {capacity:.3f} | {shares} |"


def main() -> None:
    """Write the table into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path)
    head = "| trace | length | machines | losses/h | capacity | fixed | joins always | rule |\n|---|" + "---:|" * 7
    write(TABLE, "\n".join([head, *map(row, parser.parse_args().traces)]))


if __name__ == "__main__":
    main()
