"""A long life: continue-as-new in the middle of everything, with nothing forgotten and nothing done twice."""

import json
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from api import names
from tests.workflows import cloud
from tests.workflows.test_faults import story
from tests.workflows.world import WORKFLOW_ID, World
from workflows.common import continue_as_new as history


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "EVENTS", 120)
    monkeypatch.setattr(history, "EVENTS_IN_RECOVERY", 120)


async def runs(world: World, workflow_id: str = WORKFLOW_ID) -> int:
    """Count the runs of a workflow, back from its last one."""
    count, run_id = 0, None
    while count == 0 or run_id:
        handle = world.env.client.get_workflow_handle(workflow_id, run_id=run_id)
        first = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
        run_id, count = first.continued_execution_run_id, count + 1
    return count


@pytest.mark.usefixtures("short")
async def test_a_story_in_many_runs_is_the_same_story(world: World) -> None:
    await story(world)
    assert await runs(world) > 3


@pytest.mark.usefixtures("short")
async def test_nothing_is_created_twice(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert len(world.cloud.created) == 3
    assert sorted(world.cluster.history) == [(0, 0), (0, 1), (1, 0)]
    assert await runs(world) > 1


async def test_replicas_running_are_taken_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cluster.steps = 1917
    await world.submit(replicas=2)
    await world.running(2)
    monkeypatch.setattr(history, "EVENTS", 100)
    await world.pass_time(700)
    assert await runs(world) > 1
    assert world.training() == [(0, 0), (1, 0)]
    assert len(world.checkpoints.history) >= 1
    monkeypatch.setattr(history, "EVENTS", 3000)
    assert await world.ended() == "Completed"


async def test_a_recovery_holds_it_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    before = await runs(world)
    world.notice(0)
    await world.until(lambda: len(world.cloud.created) == 3)
    monkeypatch.setattr(history, "EVENTS", 100)
    await world.until(lambda: world.machines.joining.get(world.cloud.created[2]))
    assert await runs(world) == before
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    await world.pass_time(20)
    assert await runs(world) > before


@pytest.mark.usefixtures("short")
async def test_a_deletion_that_takes_long_goes_on_in_new_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "DELETE_SECONDS", 1200.0)
    await world.submit(replicas=1)
    await world.running(1)
    vm = names.vm_workflow_id(world.fleet.keys[0])
    await world.handle.terminate("the next run has to take stock")
    await world.delete()
    await world.pass_time(60)
    before = await runs(world), await runs(world, vm)
    await world.pass_time(1000)
    assert await runs(world) > before[0]
    assert await runs(world, vm) > before[1]
    assert await world.ended() == "Deleted"
    await world.nothing_left()


async def test_a_vms_life_goes_on_in_a_new_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "EVENTS", 30)
    await world.submit(replicas=1)
    await world.running(1)
    key = world.fleet.keys[0]
    assert await runs(world, f"vm:{key}") > 1
    assert len(world.cloud.created) == 1
    await world.delete()
    await world.ended()
    await world.nothing_left()
    handle = world.env.client.get_workflow_handle(f"vm:{key}")
    assert (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED


async def test_the_state_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After four machines and a dozen checkpoints nothing is kept of the first but its line in the report."""
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "1m"})
    await world.running(1)
    for incarnation in range(1, 4):
        await world.pass_time(200)
        world.notice(0)
        await world.until(lambda seen=incarnation: world.entry(0).incarnation == seen and world.active == 1)
    await world.pass_time(200)
    monkeypatch.setattr(history, "EVENTS", 100)
    await world.pass_time(400)
    handle = world.env.client.get_workflow_handle(WORKFLOW_ID)
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    state = json.loads(started.input.payloads[0].data)["state"]
    ledger = state.pop("ledger")
    assert len(compact(state)) < 15_000
    assert len(compact(ledger)) < 400 * len(ledger["vms"] + ledger["incarnations"])


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


async def card(world: World, workflow_id: str) -> str:
    handle = world.env.client.get_workflow_handle(workflow_id)
    return str((await handle.query("__temporal_workflow_metadata")).current_details)


async def test_each_run_has_its_card(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first run has a static summary, and the SDK carries no details from run to run."""
    await world.submit(replicas=1)
    await world.running(1)
    vm = names.vm_workflow_id(f"{world.documents.start.job_id}-r0-v1")
    told = {
        WORKFLOW_ID: "### Running 1/1",
        vm: "### The VM serves its replica",
        names.market_workflow_id("p"): "The spot market of **p**",
    }
    for workflow_id, about in told.items():
        assert about in await card(world, workflow_id)
    before = await runs(world)
    monkeypatch.setattr(history, "EVENTS", 50)
    await world.pass_time(7200)
    assert await runs(world) > before
    for workflow_id, about in told.items():
        assert about in await card(world, workflow_id)


async def test_the_cards_say_why_a_vm_cannot_be_had(world: World) -> None:
    world.cloud.exhausted.update({"us-central1-a"})
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("CapacityAvailable"), 900, "no capacity")
    await world.pass_time(60)
    job = await card(world, WORKFLOW_ID)
    assert job.startswith("### Buying a VM\n")
    assert "**CapacityAvailable=False** (NoCapacity) since " in job
    assert "*What helps:* It is tried again by itself." in job
    vm = await card(world, names.vm_workflow_id(f"{world.documents.start.job_id}-r0-v1"))
    assert vm.startswith("### Buying a VM: NoCapacity\n")
    assert "| waits for | the next attempt, until " in vm
    market = await card(world, names.market_workflow_id("p"))
    assert market.startswith("### Not to be had now: 1\n")
    assert "in us-central1-a (Spot) | NoCapacity | 1 times |" in market


async def test_the_patience_with_a_pod_is_no_longer_for_a_new_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Starting")
    await world.pass_time(300)
    before = await runs(world)
    monkeypatch.setattr(history, "EVENTS", 50)
    monkeypatch.setattr(history, "EVENTS_IN_RECOVERY", 50)
    await world.pass_time(330)
    assert await runs(world) > before
    assert len(world.documents.told("StartTimeout")) == 1


async def test_a_join_that_is_watched_is_not_begun_again_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The activity of the run before would hear of its end half a minute later, and work beside the next one's."""
    await world.submit(replicas=1)
    await world.until(lambda: world.stage() == "Booting")
    monkeypatch.setattr(history, "EVENTS", 30)
    await world.until(lambda: world.stage() == "Joining")
    assert len(world.of("start_join")) == 1
    await world.running(1)
    assert len(world.of("start_join")) == 1
