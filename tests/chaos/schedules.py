"""Random schedules from seeds, and what is left of a failing one when it is shortened."""

from collections.abc import Awaitable, Callable
from random import Random

from tests.chaos.faults import KINDS
from tests.chaos.jobs import draw_job
from tests.chaos.script import Fault, Script

MOST_FAULTS = 12
SOON = [0, 1, 2, 3, 5, 8, 13, 21, 34]  # seconds after the fault before: races live there


def draw(seed: int) -> Script:
    """The schedule of a seed, the same for ever as long as the grammar is."""
    rng = Random(f"schedule {seed}")
    job = draw_job(rng) | {"course": rng.choice([0, seed])}
    faults: list[Fault] = []
    at = 0
    for _ in range(rng.randint(2, MOST_FAULTS)):
        at = at + rng.choice(SOON) if faults and rng.random() < 0.4 else rng.randint(1, int(job["steps"]))
        kind = rng.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
        faults.append(Fault(at, kind, KINDS[kind].draw(rng)))
    return Script(job, sorted(faults, key=lambda fault: fault.at))


async def shrunk(script: Script, fails: Callable[[Script], Awaitable[bool]]) -> Script:
    """As few faults as still make it fail: delta debugging over their list."""
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
