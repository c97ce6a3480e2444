"""The simulated service follows the rules of the real one. The SDK itself replays what it has recorded."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType, RetryState
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimeout
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tests.simulation.simulation import Simulation
from tests.simulation.small_workflows import Caller, Counter, Patched, Racer, Sender

WORKFLOWS = [Caller, Counter, Patched, Racer, Sender]


class Attempts:
    """An activity that fails so many times."""

    def __init__(self) -> None:
        self.seen = 0

    @activity.defn(name="third")
    async def third(self) -> str:
        self.seen += 1
        if self.seen < 3:
            raise RuntimeError(f"attempt {self.seen}")
        return "third"

    @activity.defn(name="never")
    async def never(self) -> str:
        self.seen += 1
        raise RuntimeError(f"attempt {self.seen}")

    @activity.defn(name="refused")
    async def refused(self) -> str:
        raise ApplicationError("no", type="Refused", non_retryable=True)


@pytest.fixture
async def simulation() -> AsyncIterator[Simulation]:
    simulation = Simulation(DataConverter.default)
    asking = Asking(simulation.client)
    attempts = Attempts()
    functions = [attempts.third, attempts.never, attempts.refused, asking.ask, asking.look]
    async with simulation.worker(WORKFLOWS, functions, SandboxedWorkflowRunner()):
        yield simulation
        replayer = Replayer(workflows=WORKFLOWS)
        for run in [run for run in simulation.runs() if run.activations]:
            handle = simulation.client.get_workflow_handle(run.id, run_id=run.run_id)
            await replayer.replay_workflow(await handle.fetch_history())


class Asking:
    """An activity that waits for another workflow's answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="ask")
    async def ask(self) -> str:
        handle = self._client.get_workflow_handle("counter")
        return str(await handle.execute_update("add", args=[1, 30.0]))

    @activity.defn(name="look")
    async def look(self) -> str:
        return str(await self._client.get_workflow_handle("counter").query("counted"))


async def call(simulation: Simulation, name: str, timeout: float = 60) -> Any:
    return await simulation.client.execute_workflow("Caller", args=[name, timeout], id="caller", task_queue="q")


async def count(simulation: Simulation, each: int = 100, limit: int = 3, **options: Any) -> Any:
    return await simulation.client.start_workflow(
        "Counter", args=[0, each, limit], id="counter", task_queue="q", **options
    )


async def test_a_failed_activity_is_tried_again_with_growing_pauses(simulation: Simulation) -> None:
    assert await call(simulation, "third") == "third after 6.06 s"  # 2 s and 4 s, and three times the latency


async def test_an_activity_has_so_many_attempts(simulation: Simulation) -> None:
    assert "attempt 3 after 6.06 s" in await call(simulation, "never")


async def test_a_refusal_is_not_tried_again(simulation: Simulation) -> None:
    assert "Refused: no after 0.02 s" in await call(simulation, "refused")


async def test_an_attempt_that_takes_too_long_is_timed_out(simulation: Simulation) -> None:
    await count(simulation)
    assert "StartToClose timeout after 36.00 s" in await call(simulation, "ask", timeout=10)


async def test_an_activity_waits_for_an_update_on_virtual_time(simulation: Simulation) -> None:
    await count(simulation)
    assert await call(simulation, "ask") == "1 after 30.02 s"


async def test_an_activity_queries_another_workflow(simulation: Simulation) -> None:
    await count(simulation, start_signal="more")
    assert await call(simulation, "look") == "1 after 0.02 s"


async def test_a_cancelled_activity_is_let_go_at_once(simulation: Simulation) -> None:
    handle = await simulation.client.start_workflow("Racer", args=["never", 1.0], id="racer", task_queue="q")
    assert await handle.result() == "CancelledError"


async def test_nobody_hears_of_the_end_of_a_cancelled_activity(simulation: Simulation) -> None:
    await count(simulation)
    handle = await simulation.client.start_workflow("Racer", args=["ask", 1.0, 60.0], id="racer", task_queue="q")
    assert await handle.result() == "CancelledError"
    kinds = [event.event_type for event in (await handle.fetch_history()).events]
    requested = kinds.index(EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED in kinds[requested:], "the attempt went on, and it is recorded"


async def test_a_cancelled_activity_that_fails_is_not_tried_again(simulation: Simulation) -> None:
    counter = await count(simulation)
    handle = await simulation.client.start_workflow("Racer", args=["ask", 1.0, 60.0], id="racer", task_queue="q")
    await simulation.sleep(5)
    await counter.terminate("its answer fails")
    assert await handle.result() == "CancelledError"
    failed = [e for e in (await handle.fetch_history()).events if e.HasField("activity_task_failed_event_attributes")]
    states = [event.activity_task_failed_event_attributes.retry_state for event in failed]
    assert states == [RetryState.RETRY_STATE_CANCEL_REQUESTED]


async def test_signals_that_come_with_the_start_and_later_are_counted(simulation: Simulation) -> None:
    handle = await count(simulation, start_signal="more")
    await handle.signal("more")
    assert await handle.query("counted") == 2
    await handle.signal("more")
    assert await handle.result() == 3


async def test_a_workflow_goes_on_in_new_runs(simulation: Simulation) -> None:
    handle = await count(simulation, each=2, limit=5)
    for _ in range(5):
        await handle.signal("more")
        await simulation.sleep(1)
    assert await simulation.client.get_workflow_handle("counter").result() == 5
    assert [run.status for run in simulation.runs()] == [
        WorkflowExecutionStatus.CONTINUED_AS_NEW,
        WorkflowExecutionStatus.CONTINUED_AS_NEW,
        WorkflowExecutionStatus.COMPLETED,
    ]


async def test_an_update_that_fails_tells_why(simulation: Simulation) -> None:
    handle = await count(simulation)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update("add", args=[-1, 0.0])


async def test_an_answer_that_comes_too_late_is_not_waited_for(simulation: Simulation) -> None:
    handle = await count(simulation)
    with pytest.raises(UpdateTimeout):
        await handle.execute_update("add", args=[1, 30.0], rpc_timeout=timedelta(seconds=5))


async def test_one_workflow_of_an_id_at_a_time(simulation: Simulation) -> None:
    first = await count(simulation)
    with pytest.raises(WorkflowAlreadyStartedError):
        await count(simulation)
    same = await count(simulation, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING)
    assert same.result_run_id == first.result_run_id
    await first.terminate("enough")
    with pytest.raises(WorkflowAlreadyStartedError):
        await count(simulation, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE)
    await count(simulation)


async def test_a_signal_to_nobody_is_told(simulation: Simulation) -> None:
    handle = await simulation.client.start_workflow("Sender", "counter", id="sender", task_queue="q")
    assert await handle.result() == "ExternalWorkflowExecutionNotFound"
    with pytest.raises(RPCError, match="not found"):
        await simulation.client.get_workflow_handle("counter").signal("more")


async def test_a_signal_from_a_workflow_arrives(simulation: Simulation) -> None:
    counter = await count(simulation, limit=1)
    await simulation.client.execute_workflow("Sender", "counter", id="sender", task_queue="q")
    assert await counter.result() == 1


async def test_a_worker_that_remembers_nothing_goes_the_patched_way_again() -> None:
    simulation = Simulation(DataConverter.default)
    async with simulation.worker(WORKFLOWS, [], SandboxedWorkflowRunner(), max_cached_workflows=0):
        handle = await simulation.client.start_workflow("Patched", id="patched", task_queue="q")
        assert await handle.result() == "new"
        history = await handle.fetch_history()
    assert [event.marker_recorded_event_attributes.marker_name for event in history.events].count("core_patch") == 1
    await Replayer(workflows=WORKFLOWS).replay_workflow(history)


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_seed_gives_the_same_histories(seed: int) -> None:
    histories = []
    for _ in range(2):
        simulation = Simulation(DataConverter.default, seed)
        async with simulation.worker(WORKFLOWS, [Attempts().third], SandboxedWorkflowRunner()):
            await call(simulation, "third")
            histories.append(
                [event.SerializeToString(deterministic=True) for event in simulation.runs()[0].history.events]
            )
    assert histories[0] == histories[1]
