"""The largest gang: how many calls it takes, and how large the messages of its workflow are."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from api.gang import LARGEST
from tests.simulation.limits import PAYLOAD_BYTES
from tests.simulation.simulation import Simulation
from tests.workflows import cluster
from tests.workflows.test_gang import again, submitted
from tests.workflows.world import World


def largest_payload(world: World) -> int:
    """Return the bytes of the largest input, result or signal of any workflow so far."""
    return max(run.usage.payload_bytes for run in cast(Simulation, world.env).runs())


def calls(world: World) -> Counter[str]:
    return Counter(call.name for call in world.calls)


async def test_the_largest_gang_survives_a_notice_with_few_calls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "START_SPREAD", 0.02)
    await submitted(world, members=LARGEST)
    await world.running(1, within=3600)
    await world.pass_time(120)
    before, bought, at = set(world.nodes_of(0)), calls(world), world.clock.now
    assert len(before) == LARGEST
    assert bought["create_vm"] == bought["start_join"] == LARGEST
    lost = world.notice(0, member=LARGEST // 2)
    after = set(await again(world))
    assert (world.clock.now - at).total_seconds() < 60
    assert before - after == {lost}
    assert len(after - before) == 1
    made = calls(world) - bought
    assert (made["create_vm"], made["start_join"]) == (1, 1)
    assert made.total() < 100, "the other machines cost nothing"
    assert largest_payload(world) < PAYLOAD_BYTES / 4
