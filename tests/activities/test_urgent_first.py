"""While urgent activities are under way in a worker's process, no other begins; but none waits long."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.common import Priority
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.signatures import RequestedCheckpoint
from api import names
from tests.activities.world import eventually
from worker import urgency
from worker.urgency import UrgentFirst

Activity = Callable[[], Any]


class Innermost(ActivityInboundInterceptor):
    def __init__(self) -> None:
        pass

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn()


async def run(
    turns: UrgentFirst, priority: int | None, work: Activity, seconds: float = 1200, queue: str = names.TASK_QUEUE
) -> Any:
    """Carry out an activity of this priority, time-out and task queue."""
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(),
        priority=Priority(priority_key=priority),
        task_queue=queue,
        start_to_close_timeout=timedelta(seconds=seconds),
    )
    border = turns.intercept_activity(Innermost())
    return await environment.run(border.execute_activity, ExecuteActivityInput(work, [], None, {}))


class Steps:
    """What has happened so far; an urgent activity that lasts until it is let go."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.may_end = asyncio.Event()

    async def urgent(self) -> None:
        self.told.append("urgent begins")
        await self.may_end.wait()
        self.told.append("urgent ends")

    async def usual(self) -> None:
        self.told.append("usual")

    async def fails(self) -> None:
        raise RuntimeError("it failed")

    async def are(self, *told: str) -> None:
        """Wait until this has happened."""

        async def happened() -> bool:
            return self.told == list(told)

        await eventually(", ".join(told), happened)


@pytest.fixture(autouse=True)
def nobody_waits_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time be over that a busy machine may lose between two lines of a test."""
    monkeypatch.setattr(urgency, "QUIET", 0.1)
    monkeypatch.setattr(urgency, "MOST", 300.0)


@pytest.fixture
def storm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no moment be quiet, however long one urgent activity comes after another."""
    monkeypatch.setattr(urgency, "QUIET", 3600.0)


async def test_others_begin_after_the_urgent_one_has_ended() -> None:
    turns, steps = UrgentFirst(), Steps()
    urgent = asyncio.create_task(run(turns, names.URGENT, steps.urgent))
    await steps.are("urgent begins")
    others = [asyncio.create_task(run(turns, priority, steps.usual)) for priority in (None, 3)]
    await asyncio.sleep(0.02)
    assert steps.told == ["urgent begins"]
    steps.may_end.set()
    await asyncio.gather(urgent, *others)
    assert steps.told == ["urgent begins", "urgent ends", "usual", "usual"]


async def test_an_urgent_one_waits_for_no_other_urgent_one() -> None:
    turns, steps = UrgentFirst(), Steps()
    both = [asyncio.create_task(run(turns, names.URGENT, steps.urgent)) for _ in range(2)]
    await steps.are("urgent begins", "urgent begins")
    steps.may_end.set()
    await asyncio.gather(*both)


async def test_no_other_waits_longer_than_its_time_out_allows() -> None:
    turns, steps = UrgentFirst(), Steps()
    urgent = asyncio.create_task(run(turns, names.URGENT, steps.urgent))
    await steps.are("urgent begins")
    await asyncio.wait_for(run(turns, None, steps.usual, seconds=0.2), 60)
    assert steps.told == ["urgent begins", "usual"]
    steps.may_end.set()
    await urgent


async def test_those_that_wait_leave_slots_to_urgent_ones() -> None:
    turns, steps = UrgentFirst(most=2), Steps()
    urgent = asyncio.create_task(run(turns, names.URGENT, steps.urgent))
    await steps.are("urgent begins")
    usual = [asyncio.create_task(run(turns, None, steps.usual)) for _ in range(3)]
    elsewhere = asyncio.create_task(run(turns, None, steps.usual, queue=names.LONG_QUEUE))
    await steps.are("urgent begins", "usual")
    await asyncio.sleep(0.05)
    assert steps.told == ["urgent begins", "usual"], "the third would keep a slot; one of another queue does not"
    steps.may_end.set()
    await asyncio.gather(urgent, elsewhere, *usual)


async def test_others_begin_only_once_no_urgent_one_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urgency, "QUIET", 3600.0)
    turns, steps = UrgentFirst(), Steps()
    steps.may_end.set()
    await run(turns, names.URGENT, steps.urgent)
    usual = asyncio.create_task(run(turns, None, steps.usual, seconds=3600))
    for _ in range(2):
        await asyncio.sleep(2 * urgency.MOMENT)
        await run(turns, names.URGENT, steps.urgent)
    monkeypatch.setattr(urgency, "QUIET", 0.1)
    await run(turns, names.URGENT, steps.urgent)
    await usual
    assert steps.told == ["urgent begins", "urgent ends"] * 4 + ["usual"]


async def test_an_urgent_one_that_failed_holds_nobody_up() -> None:
    turns, steps = UrgentFirst(), Steps()
    with pytest.raises(RuntimeError, match="it failed"):
        await run(turns, names.URGENT, steps.fails)
    await asyncio.wait_for(run(turns, None, steps.usual), 60)
    assert steps.told == ["usual"]


async def requested() -> RequestedCheckpoint:
    return RequestedCheckpoint(name="outlast-1")


async def test_in_a_storm_those_that_were_answered_are_told_to_rest(storm: None) -> None:
    turns = UrgentFirst()
    told = [(await run(turns, names.URGENT, requested)).others_wait for _ in range(urgency.STORM + 1)]
    assert told[: urgency.STORM - 1] == [0] * (urgency.STORM - 1)
    assert all(urgency.LEAST_REST <= each <= 1.5 * urgency.MOST_REST for each in told[urgency.STORM - 1 :])


async def test_the_longer_a_storm_lasts_the_longer_is_the_rest(storm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = UrgentFirst()
    for _ in range(urgency.STORM):
        await run(turns, names.URGENT, requested)
    for lasted, least in [(0.0, urgency.LEAST_REST), (3.0, 6.0), (60.0, urgency.BLIND_REST)]:
        monkeypatch.setattr(turns, "_since", time.monotonic() - lasted)
        assert least <= turns.rest() <= 1.5 * (least + 1)


async def test_the_rest_lasts_until_all_marked_nodes_are_answered_at_this_pace(
    storm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = iter([3, 45])
    turns = UrgentFirst(marked=lambda: next(marked))
    turns._settle()
    for _ in range(urgency.STORM):
        await run(turns, names.URGENT, requested)
        turns._counted = 45, time.monotonic() + 60
    monkeypatch.setattr(turns, "_since", time.monotonic() - 2.0)
    left = 45 - 3 - urgency.STORM
    assert 2.0 * left / urgency.STORM <= turns.rest() <= 1.5 * 2.1 * left / urgency.STORM


async def test_a_new_storm_is_counted_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urgency, "QUIET", 0.0)
    turns = UrgentFirst()
    for _ in range(2 * urgency.STORM):
        answer = await run(turns, names.URGENT, requested)
        await asyncio.sleep(0.01)
        assert turns.quiet
        assert answer.others_wait == 0
