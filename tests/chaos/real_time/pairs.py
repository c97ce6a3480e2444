"""Two workers and two bridges, one of each killed together, as with their node, at random moments of a story.

Seconds later the pair is back; meanwhile the other one goes on. Chance chooses the pair, more often that of the bridge
that acts.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

from tests.chaos.real_time import story
from tests.chaos.real_time.house import House
from tests.e2e.rig import Running

PAIRS = (("worker", "bridge"), ("worker-2", "bridge-2"))
UP = (2.0, 10.0)
"""For how many seconds both pairs run."""
AWAY = (0.5, 20.0)
"""For how many seconds one of them is away: shorter and longer than the Lease lasts."""


@dataclass
class Losses:
    """What was killed in a story, and how long nobody acted after the acting bridge was killed."""

    killed: int = 0
    gaps: list[float] = field(default_factory=list)


async def tell(house: House, name: str, dice: random.Random) -> tuple[story.Told, Losses]:
    """Play the story while pairs come and go."""
    losses, begun = Losses(), list[asyncio.Task[None]]()

    async def begin(_: Running) -> None:
        if not begun:
            begun.append(asyncio.create_task(_lose(house, dice, losses)))

    try:
        told = await story.run(house, name, begin)
    finally:
        for task in begun:
            task.cancel()
        ends = await asyncio.gather(*begun, return_exceptions=True)
    told.violations += [f"what kills the pairs has failed: {end!r}" for end in ends if isinstance(end, Exception)]
    return told, losses


async def _lose(house: House, dice: random.Random, losses: Losses) -> None:
    while True:
        await asyncio.sleep(dice.uniform(*UP))
        acting = await _acting(house)
        pair = next((each for each in PAIRS if each[1] == acting), PAIRS[0])
        if dice.random() < 0.25:
            pair = PAIRS[1 - PAIRS.index(pair)]
        away = dice.uniform(*AWAY)
        killed = time.monotonic()
        async with house.without(pair):
            losses.killed += 2
            while (left := killed + away - time.monotonic()) > 0:
                if pair[1] == acting and await _acting(house) != acting:
                    losses.gaps.append(time.monotonic() - killed)
                    acting = ""
                await asyncio.sleep(min(0.25, left))


async def _acting(house: House) -> str:
    """Find the bridge that holds the Lease."""
    lease = json.loads(await house.kubectl("get", "lease", "outlast-bridge", "-n", "outlast-system", "-o", "json"))
    return str(lease["spec"].get("holderIdentity"))
