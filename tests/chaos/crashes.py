"""The crash matrix: the demo's story, once for each activity call in it and each way in which that can go wrong.

A run of the story itself gives the list of calls, so a new activity is in it from its first day. A second story deletes
the job of the first one. A third one is that of a gang.
"""

from dataclasses import dataclass
from datetime import timedelta

from tests.chaos.calls import MODES, Mode, Point
from tests.chaos.script import parse
from tests.chaos.story import Outcome, play
from tests.simulation.clock import BEGINNING

STORIES = {
    # Bought machines, checkpoints of which the operator ignores the first, a preemption, and the end.
    "completed": parse("""
      job replicas=2 steps=600 interval=120 poll=300
      1 trap plan=silent count=1
      250 notice replica=0 seconds=30
    """),
    "deleted": parse("""
      job replicas=2 steps=600 interval=120 poll=300
      200 delete
    """),
    # A notice that is used at once, one through which it trains on, and a loss after which it is smaller for a while.
    "gang": parse("""
      job gang=3 least=2 near=1 mode=Application peers=hang agree=0 replicas=1 steps=900 interval=99 poll=300 notice=120 out=1
      200 notice_by_hand replica=0 seconds=30
      500 notice replica=1 seconds=120
      700 lost replica=2 lingering=0
    """),  # noqa: E501
}


@dataclass(frozen=True)
class Crash:
    """A call of a story that goes wrong."""

    story: str
    point: Point
    mode: Mode

    def __str__(self) -> str:
        name, nth = self.point
        return f"{self.story}: {name} {nth} {self.mode}"


async def matrix() -> list[Crash]:
    """List all crashes that the stories can suffer, in the order of their calls."""
    points = [("completed", point) for point in await _calls("completed")]
    points += [("deleted", point) for point in await _calls("deleted", since=200)]  # until then it is the same story
    points += [("gang", point) for point in await _calls("gang")]
    return [Crash(story, point, mode) for story, point in points for mode in MODES]


async def _calls(story: str, since: float = 0) -> list[Point]:
    recorded = await play(STORIES[story])
    assert recorded.violations == [], recorded.violations
    calls, begin = recorded.stage.calls, BEGINNING + timedelta(seconds=since)
    return [point for point, at in zip(calls.made, calls.at, strict=True) if at >= begin]


async def strike(crash: Crash) -> Outcome:
    """Play the story with this one call gone wrong, to its end."""
    return await play(STORIES[crash.story], lambda name, nth: crash.mode if (name, nth) == crash.point else None)


def sample(crashes: list[Crash], size: int) -> list[Crash]:
    """Choose so many crashes, spread over the stories and the modes: always the same ones for the same stories."""
    step = max(1, len(crashes) // size)
    step += step % len(MODES) == 0  # otherwise it would always be the same mode
    return crashes[::step][:size]
