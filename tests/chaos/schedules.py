"""Random schedules from seeds, and the shortest part of a failing one that still fails."""

from collections.abc import Awaitable, Callable
from random import Random

from tests.chaos.faults import KINDS
from tests.chaos.faults.grammar import DAY, HOUR
from tests.chaos.jobs import draw_gang, draw_job
from tests.chaos.script import Fault, Script, Value

MOST_FAULTS = 12
LONG = 0.1  # of all schedules: a day of outage costs as much as ten usual ones
MOST_OUTAGES, MOST_MISHAPS = 3, 8  # of a long one
SOON = [0, 1, 2, 3, 5, 8, 13, 21, 34]  # seconds after the fault before, because races are there


def draw(seed: int) -> Script:
    """Draw the schedule of a seed, which is always the same while the grammar is."""
    rng = Random(f"schedule {seed}")
    job = draw_job(rng) | {"course": rng.choice([0, seed])}
    job |= draw_gang(Random(f"gang {seed}"))  # by itself, so that the other stories stay what they were
    if rng.random() < LONG:
        return _of_days(rng, job)
    faults: list[Fault] = []
    at = 0
    for _ in range(rng.randint(2, MOST_FAULTS)):
        at = at + rng.choice(SOON) if faults and rng.random() < 0.4 else rng.randint(1, int(job["steps"]))
        kind = rng.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
        faults.append(Fault(at, kind, KINDS[kind].draw(rng)))
    return Script(job, sorted(faults, key=lambda fault: fault.at))


def _of_days(rng: Random, job: dict[str, Value]) -> Script:
    """Draw days of a training, with outages of hours to weeks, and mishaps before, in and soon after them."""
    job |= {"steps": rng.choice([100_000, 300_000]), "interval": rng.choice([HOUR, 6 * HOUR]), "long": 1800}
    job.pop("events", None)  # a run of so many events takes minutes: there would be far too many runs
    lasting = {kind: each.days for kind, each in KINDS.items() if each.days}
    mishaps = {kind: each for kind, each in KINDS.items() if kind != "interval"}  # a checkpoint a minute costs too much
    outages, faults = list[Fault](), list[Fault]()
    for _ in range(rng.randint(1, MOST_OUTAGES)):
        kind = rng.choices(list(lasting), list(lasting.values()))[0]
        outages.append(Fault(rng.randint(1, DAY), kind, KINDS[kind].draw_long(rng)))
    for _ in range(rng.randint(2, MOST_MISHAPS)):
        near = rng.choice(outages)
        at = rng.choice([near.at, rng.randint(near.at, near.ends), near.ends]) + rng.choice(SOON)
        kind = rng.choices(list(mishaps), [kind.weight for kind in mishaps.values()])[0]
        faults.append(Fault(at, kind, KINDS[kind].draw(rng)))
    return Script(job, sorted([*outages, *faults], key=lambda fault: fault.at))


async def shrunk(script: Script, fails: Callable[[Script], Awaitable[bool]]) -> Script:
    """Find as few faults as possible that still make it fail, by delta debugging of their list."""
    faults, parts = list(script.faults), 2
    while len(faults) > 1:
        size = max(1, len(faults) // parts)
        for begin in range(0, len(faults), size):
            fewer = faults[:begin] + faults[begin + size :]
            if await fails(script.with_faults(fewer)):
                faults, parts = fewer, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(faults), parts * 2)
    return script.with_faults(faults)
