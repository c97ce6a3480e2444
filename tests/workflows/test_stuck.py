"""Stuck workflows: whom the sweep tells, how often, and that it reports when they continue. On virtual time."""

from typing import Any

import pytest

from activities import signatures as act
from api.sweep import Stuck, SweepReport
from tests.workflows.test_sweep import sweep
from tests.workflows.world import World

FAILS = "WorkflowTaskFailed: WorkflowWorkerUnhandledFailure"
JOB = Stuck(workflow_id="team/llm", workflow_type="SpotInstanceJob", problem=FAILS, namespace="team", job_name="llm")
MARKET = Stuck(workflow_id="market:p", workflow_type="SpotMarket", problem=FAILS)


def stuck(*found: Stuck) -> act.FoundStuck:
    counts = {
        kind: len([each for each in found if each.workflow_type == kind]) for kind in ("SpotInstanceJob", "SpotMarket")
    }
    return act.FoundStuck(workflows=list(found), counts=counts)


async def next_sweep(world: World, **changes: Any) -> SweepReport:
    """Sweep, and hand the result on as the Schedule does."""
    report = await sweep(world, **changes)
    world.env.last_results["sweep"] = report  # type: ignore[attr-defined]
    return report


def alarms(world: World) -> list[str]:
    return [alarm.message for alarm in world.fleet.alarms if alarm.reason == "WorkflowStuck"]


async def test_where_all_goes_on_nobody_is_told(world: World) -> None:
    report = await next_sweep(world)
    assert (report.stuck, report.blind, world.fleet.alarms, world.fleet.stuck_told) == ([], None, [], [])


async def test_people_and_the_owner_are_told_at_once(world: World) -> None:
    world.fleet.stuck = stuck(JOB, MARKET)
    report = await next_sweep(world)
    (alarm,) = alarms(world)
    assert alarm.startswith("2 workflows do not go on")
    assert f"SpotInstanceJob team/llm ({FAILS})" in alarm
    (told,) = world.fleet.stuck_told
    assert (told.stuck, told.well_again) == ([JOB, MARKET], [])
    assert "2 workflows do not go on" in report.summary
    assert [each.workflow_id for each in report.stuck] == ["team/llm", "market:p"]


async def test_they_are_told_again_each_hour_and_of_what_is_new_at_once(world: World) -> None:
    world.fleet.stuck = stuck(JOB)
    for _ in range(7):  # an hour
        await next_sweep(world)
        await world.pass_time(540)
    assert len(alarms(world)) == 2
    world.fleet.stuck = stuck(JOB, MARKET)
    await next_sweep(world)
    assert [told.stuck for told in world.fleet.stuck_told][2:] == [[MARKET]]
    assert "team/llm" in alarms(world)[2]  # the alarm names all


async def test_another_problem_of_the_same_workflow_is_news(world: World) -> None:
    world.fleet.stuck = stuck(JOB)
    await next_sweep(world)
    world.fleet.stuck = stuck(JOB.model_copy(update={"problem": "WorkflowTaskTimedOut"}))
    await next_sweep(world)
    assert len(alarms(world)) == 2


async def test_the_owner_is_told_when_it_goes_on(world: World) -> None:
    world.fleet.stuck = stuck(JOB)
    await next_sweep(world)
    world.fleet.stuck = stuck()
    report = await next_sweep(world)
    assert report.stuck == []
    assert [each.workflow_id for each in world.fleet.stuck_told[1].well_again] == [JOB.workflow_id]
    await next_sweep(world)
    assert len(world.fleet.stuck_told) == 2
    assert len(alarms(world)) == 1


@pytest.mark.parametrize("now", [stuck(JOB), stuck()])
async def test_an_owner_who_cannot_be_told_is_told_by_the_next_sweep(world: World, now: act.FoundStuck) -> None:
    world.fleet.stuck = stuck(JOB)
    if now == stuck():
        await next_sweep(world)
    world.fleet.stuck = now
    world.down.add("tell_stuck")
    await next_sweep(world)
    before = len(world.fleet.stuck_told)
    world.down.clear()
    await next_sweep(world)
    assert len(world.fleet.stuck_told) == before + 1


async def test_a_service_that_does_not_mark_them_is_told_of_once(world: World) -> None:
    world.fleet.stuck = act.FoundStuck(blind="it is too old")
    for _ in range(3):
        report = await next_sweep(world)
    assert report.blind == "it is too old"
    assert alarms(world) == ["workflows that do not go on cannot be seen: it is too old"]


async def test_a_finder_that_fails_keeps_what_is_known(world: World) -> None:
    world.fleet.stuck = stuck(JOB)
    await next_sweep(world)
    world.down.add("find_stuck")
    report = await next_sweep(world)
    assert [each.workflow_id for each in report.stuck] == [JOB.workflow_id]
    assert list(report.not_looked_for) == ["workflows"]
    world.down.clear()
    await next_sweep(world)
    assert len(alarms(world)) == 1


async def test_a_thousand_at_once_are_counted_and_five_named(world: World) -> None:
    many = [JOB.model_copy(update={"workflow_id": f"team/j{number}"}) for number in range(200)]
    world.fleet.stuck = act.FoundStuck(workflows=many, counts={"SpotInstanceJob": 1000})
    await next_sweep(world)
    assert "1000 workflows" in alarms(world)[0]
    assert "and 995 more" in alarms(world)[0]
    assert len(alarms(world)[0].encode()) < 1024
