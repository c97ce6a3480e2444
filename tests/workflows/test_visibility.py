"""A job can be found by what it is doing, and costs an upsert only when that changes."""

from typing import Any

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle

from activities import signatures as act
from api import names
from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World
from workflows.common import continue_as_new as history

OURS = {"OutlastJobId", "OutlastNamespace", "OutlastJob", "OutlastPhase", "OutlastOnDemand"}


async def found_by(handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
    """Return the attributes that the service has."""
    return {pair.key.name: pair.value for pair in (await handle.describe()).typed_search_attributes}


async def upserts(world: World) -> list[HistoryEvent]:
    """List the upserts of the job's latest run."""
    events = (await world.handle.fetch_history()).events
    return [event for event in events if event.HasField("upsert_workflow_search_attributes_event_attributes")]


async def test_a_job_that_seeks_is_found_by_that_and_by_why(world: World) -> None:
    world.cloud.exhausted.update({"us-central1-a"})
    await world.submit(replicas=2)
    await world.until(lambda: world.documents.condition("CapacityAvailable"), 900, "no capacity")
    await world.pass_time(30)
    start = world.documents.start
    assert await found_by(world.handle) == {
        "OutlastJobId": start.job_id,
        "OutlastNamespace": start.namespace,
        "OutlastJob": start.name,
        "OutlastPhase": "Seeking",
        "OutlastWaitsFor": "CapacityAvailable",
        "OutlastOnDemand": False,
    }
    before = len(await upserts(world))
    await world.pass_time(7200)
    assert len(await upserts(world)) == before, "two hours in which nothing changed"


async def test_what_it_waited_for_is_unset_once_it_runs(world: World) -> None:
    world.cloud.exhausted.update({"us-central1-a"})
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("CapacityAvailable"), 900, "no capacity")
    await world.pass_time(10)
    world.cloud.exhausted.clear()
    await world.running(1, within=3600)
    await world.pass_time(10)
    found = await found_by(world.handle)
    assert set(found) == OURS
    assert found["OutlastPhase"] == "Running"


async def test_the_loss_of_one_of_two_replicas_costs_no_upsert(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(10)
    before = len(await upserts(world))
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert len(await upserts(world)) == before


async def test_a_life_costs_few_upserts(world: World) -> None:
    world.cluster.steps = 317
    await world.submit(replicas=1)
    await world.ended()
    assert (await found_by(world.handle))["OutlastPhase"] == "Completed"
    assert len(await upserts(world)) <= 6  # Preparing, Seeking, Starting, Running, Ending, Completed


async def test_the_next_run_goes_on_with_the_same_values(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(10)
    before = await found_by(world.handle)
    monkeypatch.setattr(history, "EVENTS", 60)
    await world.pass_time(700)
    assert await runs(world) > 1
    assert await found_by(world.handle) == before
    assert await upserts(world) == []


async def test_where_they_are_not_registered_a_job_goes_without(world: World) -> None:
    unknown(world)
    await world.submit(replicas=1)
    await world.running(1)
    assert await upserts(world) == []


async def test_a_job_gets_them_with_its_next_look_once_they_are_registered(world: World) -> None:
    registered = unknown(world)
    await world.submit(replicas=1)
    await world.running(1)
    registered.append(True)
    await world.pass_time(world.documents.timings.resync + 10)
    assert (await found_by(world.handle))["OutlastPhase"] == "Running"
    assert len(await upserts(world)) == 1


async def test_a_market_is_found_by_its_project(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    market = world.env.client.get_workflow_handle(names.market_workflow_id("p"))
    assert await found_by(market) == {"OutlastProject": "p"}


def unknown(world: World) -> list[bool]:
    """Let the worker find no attribute registered until some are put into the list."""
    registered: list[bool] = []
    load = world.documents.load_job

    def look(ref: act.JobRef) -> act.JobDocument:
        return load(ref).model_copy(update={"searchable": bool(registered)})

    world.documents.load_job = look  # type: ignore[method-assign]
    return registered
