"""Messages between the workflows on Temporal's real dev server: the virtual one delivers what this one loses.

A message may arrive between a workflow's decision to continue as new and the service's acceptance of it. The tests
produce that moment: a tap on the worker delays the command until the message has been sent.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.workflow import Info

from activities.signatures import EnsuredVm
from api import names
from api.messages import PreemptionNotice, VmRelease, VmReport, VmStart
from sandbox.binaries import Binaries
from tests.workflow_sandbox import sandbox
from tests.workflows.dev_server import TIMINGS, quick_world, vm_of
from tests.workflows.documents import CLUSTER_ID, NAME, NAMESPACE, VM_SPEC
from tests.workflows.tap import Tap
from tests.workflows.world import World
from workflows.common import continue_as_new as history

SENT_WITHIN = 25  # seconds; a workflow that is blocked for thirty looks dead to the SDK (tests/workflows/dev_server.py)


class Interruption:
    """Counts runs that continue as new, and does something in the middle of one."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.interrupted: Info | None = None
        self._when: str | None = None
        self._do: Callable[[], Awaitable[None]] | None = None
        self._loop = asyncio.get_running_loop()

    def once(self, workflow_type: str, do: Callable[[], Awaitable[None]]) -> None:
        """Do this once a workflow of that type has decided to continue as new, before anybody knows of it."""
        self._when, self._do = workflow_type, do

    def heard(self, info: Info, command: Any) -> None:
        """Act on the workflow's thread."""
        if not command.HasField("continue_as_new_workflow_execution"):
            return
        self.runs[info.workflow_type] += 1
        if info.workflow_type == self._when and self._do is not None:
            do, self._do, self.interrupted = self._do, None, info
            asyncio.run_coroutine_threadsafe(_await(do()), self._loop).result(SENT_WITHIN)


async def _await(work: Awaitable[None]) -> None:
    await work


@pytest.fixture
async def interruption() -> Interruption:
    """Make the interruption of a continue-as-new."""
    return Interruption()


@pytest.fixture
async def real(
    executables: Binaries, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Make a quick world on a dev server of its own, with a tap on its worker."""
    tap = Tap(sandbox("workflows.common.continue_as_new"), interruption.heard)
    async with quick_world(executables, monkeypatch, tap) as made, made.worker():
        yield made


class Limit(int):
    """A limit for one workflow. Others, replayed, would find that they should have continued as new long ago."""

    workflow_id = ""

    def __le__(self, events: int) -> bool:
        return workflow.info().workflow_id == self.workflow_id and events >= int(self)


async def is_next_too_long(handle: WorkflowHandle[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it continue as new after its next step, whatever that is."""
    limit = Limit((await handle.describe()).history_length + 1)
    limit.workflow_id = handle.id
    monkeypatch.setattr(history, "EVENTS", limit)


async def was_refused_once(handle: WorkflowHandle[Any, Any], interrupted: Info | None) -> bool:
    """True if the service has refused the first continue-as-new, because a message had arrived."""
    assert interrupted is not None
    first = await handle._client.get_workflow_handle(interrupted.workflow_id, run_id=interrupted.run_id).fetch_history()
    causes = [
        event.workflow_task_failed_event_attributes.cause
        for event in first.events
        if event.HasField("workflow_task_failed_event_attributes")
    ]
    continued = first.events[-1].HasField("workflow_execution_continued_as_new_event_attributes")
    return continued and causes == [WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND]


async def test_a_release_in_the_midst_of_a_vms_continue_as_new_is_not_lost(
    real: World, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    vm = vm_of(real)
    interruption.once(names.VM_WORKFLOW, lambda: vm.signal("release", VmRelease(reason="Test")))
    await is_next_too_long(vm, monkeypatch)
    await vm.signal("ensure")
    assert await asyncio.wait_for(vm.result(), 200) == "Test"
    assert await was_refused_once(vm, interruption.interrupted)
    assert vm.id == names.vm_workflow_id(real.of("ensure_vm")[0].request.key)


async def test_a_notice_in_the_midst_of_a_vms_continue_as_new_is_not_lost(
    real: World, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    vm = vm_of(real)
    interruption.once(names.VM_WORKFLOW, lambda: vm.signal("preemption_notice", PreemptionNotice(source="test")))
    await is_next_too_long(vm, monkeypatch)
    await vm.signal("ensure")
    await real.until(lambda: real.entry(0).preemptions == 1, 60, "the job to hear of the notice")
    assert await was_refused_once(vm, interruption.interrupted)


async def test_a_report_in_the_midst_of_a_jobs_continue_as_new_is_not_lost(
    real: World, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    report = VmReport(key=real.fleet.keys[0], number=1000, stage="Noticed", reason="test", vm_name=real.node_of(0))
    interruption.once(names.JOB_WORKFLOW, lambda: real.signal("vm_changed", report))
    await is_next_too_long(real.handle, monkeypatch)
    await real.signal("checkpoint_now")
    await real.until(lambda: real.entry(0).preemptions == 1, 60, "the job to hear of the notice")
    assert await was_refused_once(real.handle, interruption.interrupted)


async def test_a_whole_life_in_short_runs(
    real: World, interruption: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EVENTS", 60)
    monkeypatch.setattr(history, "EVENTS_IN_RECOVERY", 60)
    await real.submit(replicas=2)
    await real.running(2, within=90)
    await real.signal("checkpoint_now")
    await real.until(lambda: real.documents.told("CheckpointCompleted"), 60, "a checkpoint")
    real.notice(0, seconds=2)
    await real.until(lambda: real.entry(0).incarnation == 1 and real.active == 2, 90, "replica 0 to be restored")
    await real.delete()
    assert await real.ended(within=90) == "Deleted"
    await real.nothing_left()
    assert interruption.runs[names.JOB_WORKFLOW] >= 4
    assert interruption.runs[names.VM_WORKFLOW] >= 2


async def test_a_vm_that_reports_to_a_closed_job_lets_go_of_its_machine(real: World) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    await real.handle.terminate("by a person with the CLI")
    await vm_of(real).signal("ensure")
    assert "OwnerGone" in await asyncio.wait_for(vm_of(real).result(), 200)
    assert real.cloud.instances == {}


async def test_a_job_that_releases_a_closed_vm_goes_on_to_its_end(real: World) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    await vm_of(real).terminate("by a person with the CLI")
    await real.delete()
    assert await real.ended(within=60) == "Deleted"
    await real.nothing_left()


async def test_a_job_that_tells_a_closed_vm_of_a_notice_goes_on_with_another(real: World) -> None:
    await real.submit(replicas=1)
    await real.running(1, within=60)
    await vm_of(real).terminate("by a person with the CLI")
    real.notice(0, seconds=1)
    await real.until(lambda: real.entry(0).incarnation == 1 and real.active == 1, 60, "replica 0 to run again")
    assert len(real.cloud.created) == 2


async def test_a_life_that_is_over_is_not_begun_again(real: World) -> None:
    job = real.documents.start
    start = VmStart(
        key=names.vm_key(job.job_id, 0, 1),
        cluster_id=CLUSTER_ID,
        job_id=job.job_id,
        replica=0,
        namespace=NAMESPACE,
        job_name=NAME,
        job_uid=job.uid,
        vm_name="gpu",
        spec=VM_SPEC,
        timings=TIMINGS,
    )
    await real.fleet.ensure_vm(start)
    await asyncio.wait_for(vm_of(real).result(), 200)
    first = (await vm_of(real).describe()).run_id
    await real.submit(replicas=1)
    await real.running(1, within=60)
    assert await real.fleet.ensure_vm(start) == EnsuredVm(open=False)
    description = await vm_of(real).describe()
    assert (description.run_id, description.status) == (first, WorkflowExecutionStatus.COMPLETED)
    assert real.node_of(0) == names.vm_name(names.vm_key(job.job_id, 0, 2), 1)
