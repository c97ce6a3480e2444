"""Services hang. A call that nobody answers delays neither a notice nor a teardown."""

from typing import Any

import pytest

from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World
from workflows.common import continue_as_new as history

HOUR = 3600.0


def hang(world: World, name: str, seconds: float = HOUR) -> None:
    """Let an activity hang for longer than anybody waits for it."""
    part = next(part for part in (world.documents, world.cluster_calls, world.bucket) if hasattr(part, name))
    answer = getattr(part, name)

    async def late(request: Any) -> Any:
        await world.env.wait(lambda resume: world.clock.after(seconds, resume), None)  # type: ignore[attr-defined]
        return answer(request)

    setattr(part, name, late)


async def look_again(world: World) -> None:
    """Wait until the hourly check is under way, which hangs."""
    await world.submit(replicas=2)
    await world.running(2)
    before = len(world.of("preflight"))
    hang(world, "preflight")
    await world.until(lambda: len(world.of("preflight")) > before, HOUR + 60)


async def test_a_notice_does_not_wait_for_a_registry_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is about to continue as new, which it does only with nothing under way."""
    await look_again(world)
    before, dumps, looks = await runs(world), len(world.of("create_checkpoint")), len(world.of("preflight"))
    monkeypatch.setattr(history, "EVENTS", 10)
    await world.signal("resume")
    await world.pass_time(1)
    monkeypatch.setattr(history, "EVENTS", 3000)
    world.notice(0)
    await world.until(lambda: len(world.of("create_checkpoint")) > dumps, 10, "the checkpoint of the survivor")
    assert await runs(world) > before
    await world.until(lambda: len(world.of("preflight")) > looks, 330, "the look that was let go of")


async def test_a_teardown_does_not_wait_for_a_registry_that_hangs(world: World) -> None:
    await look_again(world)
    deleted = world.clock.now
    await world.delete()
    await world.ended()
    assert (world.clock.now - deleted).total_seconds() < 180
