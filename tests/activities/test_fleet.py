"""VMs and the workflows that own them: a real Temporal service, a real API server, the emulated GCE."""

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from activities.signatures import CheckOwner
from api import names
from api.messages import VmStart
from tests.activities.fleet_setting import Fleet, fleet
from tests.activities.world import run

__all__ = ["fleet"]


async def test_ensures_a_vm_by_starting_its_workflow(fleet: Fleet) -> None:
    assert (await run(fleet.activities.ensure_vm, fleet.start)).open
    assert (await fleet.vm_run())[1] == WorkflowExecutionStatus.RUNNING
    found = await fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key)).describe()
    assert found.raw_description.workflow_execution_info.priority.fairness_key == fleet.start.namespace


async def test_ensuring_again_asks_the_same_run(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    first, _ = await fleet.vm_run()
    assert (await run(fleet.activities.ensure_vm, fleet.start)).open
    assert (await fleet.vm_run())[0] == first
    history = await fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key)).fetch_history()
    signals = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]
    told = [e.workflow_execution_signaled_event_attributes.signal_name for e in signals]
    assert told == ["ensure"], "the start itself says what the first one would"


async def test_a_life_that_is_over_is_not_begun_again(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.end_vm()
    assert not (await run(fleet.activities.ensure_vm, fleet.start)).open
    assert (await fleet.vm_run())[1] == WorkflowExecutionStatus.TERMINATED


async def test_an_orphans_teardown_begins_after_a_life_that_is_over(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.end_vm()
    stock = fleet.start.model_copy(update={"replica": -1})
    assert (await run(fleet.activities.adopt_orphan, stock)).open
    assert (await fleet.vm_run())[1] == WorkflowExecutionStatus.RUNNING
    history = await fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key)).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (start,) = await fleet.temporal.data_converter.decode(payloads, [VmStart])
    assert (start.teardown, start.replica) == (True, 0)


async def test_a_live_owner_is_not_disturbed(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    first = await fleet.vm_run()
    await run(fleet.activities.adopt_orphan, fleet.start)
    assert await fleet.vm_run() == first


# --- owners


async def owner_alive(fleet: Fleet, **changes: Any) -> bool:
    return (await run(fleet.activities.check_owner, CheckOwner(job=fleet.job.model_copy(update=changes)))).alive


async def test_a_job_with_an_open_workflow_lives(fleet: Fleet) -> None:
    await fleet.open_job()
    assert await owner_alive(fleet)


async def test_a_job_whose_workflow_may_be_started_again_lives(fleet: Fleet) -> None:
    assert await owner_alive(fleet)


async def test_a_job_that_ended_does_not_live(fleet: Fleet) -> None:
    await fleet.finish_job()
    assert not await owner_alive(fleet)


async def test_a_job_that_ends_lives_until_its_workflow_is_closed(fleet: Fleet) -> None:
    await fleet.open_job()
    await fleet.finish_job()
    assert await owner_alive(fleet)


async def test_a_job_that_is_gone_does_not_live(fleet: Fleet) -> None:
    assert not await owner_alive(fleet, name="gone")


async def test_a_job_of_the_same_name_is_another_job(fleet: Fleet) -> None:
    await fleet.open_job()
    assert not await owner_alive(fleet, uid="another")


async def test_a_deleted_job_lives_while_its_workflow_tears_down(fleet: Fleet) -> None:
    await fleet.open_job()
    await fleet.kube.delete(fleet.world.job_path)
    assert await owner_alive(fleet)
