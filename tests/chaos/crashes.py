"""The crash matrix: the demo's story, once for each activity call in it and each way in which that can go wrong.

The list of calls is taken from a run of the story itself, so that a new activity is in it the day it is written.
"""

from tests.chaos.calls import MODES, Mode, Point
from tests.chaos.script import Script, parse
from tests.chaos.story import Outcome, play

STORY = parse("""
  job replicas=2 steps=600 interval=120 poll=300
  250 notice replica=0 seconds=30
""")
"""Two replicas on bought machines, checkpoints, a preemption with a notice, the survivor's checkpoint, completion."""

Crash = tuple[Point, Mode]


async def matrix() -> list[Crash]:
    """All crashes that the story can suffer, in the order of its calls."""
    recorded = await play(STORY)
    assert recorded.violations == [], recorded.violations
    return [(point, mode) for point in recorded.stage.calls.made for mode in MODES]


async def strike(crash: Crash, story: Script = STORY) -> Outcome:
    """The story with this one call gone wrong, to its end."""
    point, mode = crash
    return await play(story, lambda name, nth: mode if (name, nth) == point else None)


def sample(crashes: list[Crash], size: int) -> list[Crash]:
    """So many of them, spread over the story and over the modes: the same ones for the same story."""
    step = max(1, len(crashes) // size)
    step += step % len(MODES) == 0  # else it would be always the same mode
    return crashes[::step][:size]
