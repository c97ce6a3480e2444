"""A Temporal service and its worker in one process, on virtual time: what a test runs on is the same each time.

Workflows run in the SDK's own runner and sandbox, clients speak the service's own protocol, histories have the
service's form and the SDK can replay them. What is simulated is what lies between: matching, timers, retries, signals.
Nothing happens by itself: time goes on where a test lets it, one event after the other.
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import temporalio.workflow
from temporalio import activity
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import QueryResult, ScheduleActivity
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.common import MetricMeter, Priority
from temporalio.converter import DataConverter, decode_search_attributes, decode_typed_search_attributes
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from tests.simulation.attempts import Activity, Ended
from tests.simulation.clock import Clock
from tests.simulation.execution import Beginning, Execution
from tests.simulation.limits import near
from tests.simulation.service import SimulatedService

LATENCY = 0.02  # seconds from an effect until the service knows of it
TOO_OFTEN = 2000  # workflow tasks at one moment, more than which mean a busy loop


@dataclass
class _Worker:
    workflows: Mapping[str, Any]
    activities: Mapping[str, Callable[..., Any]]
    runner: WorkflowRunner
    forgets: bool  # it keeps no workflow between two tasks


class Simulation:
    """The service, its clock, and a client of it.

    Args:
        converter: of clients and workers.
        seed: of run ids and of workflows' randomness.
    """

    namespace = "default"

    def __init__(self, converter: DataConverter, seed: int = 0) -> None:
        self.clock = Clock()
        self.random = random.Random(seed)
        self.converter = converter
        self.client = Client(SimulatedService(self), namespace=self.namespace, data_converter=converter)
        self.latency: Callable[[], float] = lambda: LATENCY
        self.meter = MetricMeter.noop  # the workflows'
        self.tasks = 0  # workflow tasks so far
        self.last_results: dict[str, Any] = {}  # by workflow id: what a Schedule hands on from the run before
        self._runs: dict[str, list[Execution]] = {}
        self._awake: dict[str, Execution] = {}
        self._instances: dict[str, WorkflowInstance] = {}
        self._activities: list[Activity] = []
        self._worker: _Worker | None = None
        self._driven = False  # a test lets time pass while its own calls wait
        self._working, self._waiting = 0, 0  # activities' attempts under way; those that wait for the service itself

    # --- time

    async def sleep(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        end = self.clock.now + timedelta(seconds=seconds)
        await self.settle()
        while (wait := self.clock.next_in()) <= (end - self.clock.now).total_seconds():
            self.clock.advance(self.clock.now + timedelta(seconds=wait))
            await self.settle()
        self.clock.advance(end)

    async def settle(self) -> None:
        """Wait until nothing more happens at this moment."""
        before = self.tasks
        while True:
            if self._working > self._waiting and self._is_busy():
                await asyncio.sleep(0)
            elif self._awake and self._worker is not None:
                self.tasks += 1
                if self.tasks - before > TOO_OFTEN:
                    raise AssertionError(f"{next(iter(self._awake))} goes round in circles at {self.clock.now}")
                await self._awake.pop(next(iter(self._awake))).task()
            else:
                return

    @staticmethod
    def _is_busy() -> bool:
        """True if anything else can go on now. If not, the activities wait for virtual time, or for each other."""
        return bool(asyncio.get_running_loop()._ready)  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def driven(self) -> Iterator[None]:
        """Leave it to the test to advance time while this is open: its calls that wait for an answer do not."""
        self._driven = True
        try:
            yield
        finally:
            self._driven = False

    async def watch(self, seconds: float) -> None:
        """Let an activity wait for so much virtual time."""
        await self.wait(lambda resume: self.clock.after(seconds, resume) and None, None)

    async def wait(self, begin: Callable[[Callable[[], None]], None], timeout: timedelta | None) -> None:
        """Wait for what ``begin`` starts, which calls its argument when it is done.

        Raises:
            RPCError: it took longer than ``timeout`` of virtual time.
        """
        done = asyncio.get_running_loop().create_future()
        inside = activity.in_activity()

        def resume(error: Exception | None = None) -> None:
            if done.done():
                return
            self._waiting -= inside
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        late = RPCError("deadline exceeded", RPCStatusCode.DEADLINE_EXCEEDED, b"")
        if timeout is not None:
            self.clock.after(timeout.total_seconds(), lambda: resume(late))
        self._waiting += inside
        begin(resume)
        try:
            while not inside and not self._driven and not done.done():  # a test's own call lets time pass
                await self.sleep(min(60.0, self.clock.next_in()))
            await done
        except asyncio.CancelledError:
            if not done.done() or done.cancelled():
                self._waiting -= inside
            raise

    # --- runs

    def start(self, beginning: Beginning, run_id: str) -> Execution:
        """Begin a run."""
        run = Execution(beginning, run_id, self)
        self._runs.setdefault(beginning.workflow_id, []).append(run)
        return run

    def new_run_id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def find(self, workflow_id: str, run_id: str = "") -> Execution | None:
        """Find the latest run of a workflow, or a certain one."""
        runs = self._runs.get(workflow_id, [])
        return next((run for run in reversed(runs) if not run_id or run.run_id == run_id), None)

    def runs(self) -> list[Execution]:
        """List all runs, in the order of their beginnings."""
        return [run for runs in self._runs.values() for run in runs]

    def drop_closed(self) -> list[Execution]:
        """Forget what closed runs have seen, except for the last of each workflow, and return those runs."""
        dropped = []
        for workflow_id, runs in self._runs.items():
            dropped += [run for run in runs[:-1] if not run.is_open]
            self._runs[workflow_id] = [run for run in runs[:-1] if run.is_open] + runs[-1:]
        return dropped

    def wake(self, run: Execution) -> None:
        """Note that a run has something for its workflow."""
        self._awake[run.run_id] = run

    def forget(self, run: Execution) -> None:
        """Forget a run that has ended."""
        self._awake.pop(run.run_id, None)

    # --- the worker

    @contextlib.asynccontextmanager
    async def worker(
        self,
        workflows: Sequence[type],
        activities: Sequence[Callable[..., Any]],
        runner: WorkflowRunner,
        max_cached_workflows: int = 1000,
    ) -> AsyncIterator[None]:
        """Run a worker while this is open.

        Raises:
            AssertionError: at the end, if a run came near a limit of the service.
        """
        definitions = [temporalio.workflow._Definition.must_from_class(workflow) for workflow in workflows]
        functions = {activity._Definition.must_from_callable(each).name: each for each in activities}
        self._worker = _Worker(
            {str(definition.name): definition for definition in definitions},
            {str(name): function for name, function in functions.items()},
            runner,
            forgets=max_cached_workflows == 0,
        )
        try:
            yield
            used = [each for run in self.runs() for each in near(run)]
            assert not used, f"runs that came near a limit of the service: {'; '.join(used)}"
        finally:
            self._worker = None
            for one in self._activities:
                one.lose_worker()
            await asyncio.sleep(0)
            for run_id in list(self._instances):
                await self._evict(run_id)

    def new_activity(self, command: ScheduleActivity, workflow_id: str, ended: Ended) -> Activity:
        """Make an activity that a workflow has scheduled."""
        assert self._worker is not None
        return Activity(
            command,
            workflow_id,
            self._worker.activities[command.activity_type],
            self.converter,
            self.clock,
            self.latency,
            self._count,
            ended,
        )

    def begin(self, one: Activity) -> None:
        self._activities = [each for each in self._activities if each.in_attempt] + [one]
        one.begin()

    def _count(self, change: int) -> None:
        self._working += change

    async def activate(self, run: Execution, activation: WorkflowActivation) -> WorkflowActivationCompletion:
        """Let the workflow go on.

        Raises:
            AssertionError: its task failed, which no workflow of ours ever should.
        """
        instance = self._instances.get(run.run_id)
        if instance is None:
            instance = self._instances[run.run_id] = await self._come_to(run, before=activation)
        completion = await _inline(lambda: instance.activate(activation))
        if completion.HasField("failed"):
            raise AssertionError(f"a task of {run.id} failed: {completion.failed.failure}")
        ended = any(_is_end(command) for command in completion.successful.commands)
        if ended or (self._worker is not None and self._worker.forgets):
            await self._evict(run.run_id)
        return completion

    async def query(self, run: Execution, job: WorkflowActivationJob) -> QueryResult:
        """Ask the workflow something."""
        if not activity.in_activity():  # which would wait for itself
            await self.settle()
        if run.run_id not in self._instances:
            self._instances[run.run_id] = await self._come_to(run, before=None)
        instance = self._instances[run.run_id]
        completion = await _inline(lambda: instance.activate(run.activation([job])))
        if not run.is_open:
            await self._evict(run.run_id)
        return completion.successful.commands[0].respond_to_query

    async def _come_to(self, run: Execution, before: WorkflowActivation | None) -> WorkflowInstance:
        """Make an instance that has gone through all that the run has seen."""
        instance = self._create(run)
        for past in run.activations:
            if past is before:
                break
            again = WorkflowActivation()
            again.CopyFrom(past)
            again.is_replaying = True
            await _inline(lambda again=again: instance.activate(again))  # type: ignore[misc]
        return instance

    def _create(self, run: Execution) -> WorkflowInstance:
        assert self._worker is not None, "no worker"
        b = run.beginning
        began = run.began.replace(tzinfo=UTC)
        info = temporalio.workflow.Info(
            attempt=1,
            continued_run_id=b.continued_from or None,
            cron_schedule=None,
            execution_timeout=None,
            first_execution_run_id=b.first_run_id or run.run_id,
            headers=dict(b.header.fields),
            namespace=self.namespace,
            original_execution_run_id=run.run_id,
            parent=None,
            root=None,
            raw_memo=dict(b.memo.fields),
            retry_policy=None,
            run_id=run.run_id,
            run_timeout=None,
            search_attributes=decode_search_attributes(b.search_attributes),
            start_time=began,
            workflow_start_time=began,
            task_queue=b.task_queue,
            task_timeout=timedelta(seconds=10),
            typed_search_attributes=decode_typed_search_attributes(b.search_attributes),
            workflow_id=b.workflow_id,
            workflow_type=b.workflow_type,
            priority=Priority.default,
        )
        details = WorkflowInstanceDetails(
            payload_converter_factory=lambda: self.converter.payload_converter_class(),
            failure_converter_class=self.converter.failure_converter_class,
            interceptor_classes=[],
            defn=self._worker.workflows[b.workflow_type],
            info=info,
            randomness_seed=run.activations[0].jobs[0].initialize_workflow.randomness_seed,
            extern_functions={
                "__temporal_get_metric_meter": lambda: self.meter,
                "__temporal_assert_local_activity_valid": lambda _: None,
            },
            disable_eager_activity_execution=True,
            worker_level_failure_exception_types=[],
            patch_activation_callback=None,
            last_completion_result=Payloads(payloads=self._last_result(b.workflow_id)),
            last_failure=None,
        )
        return self._worker.runner.create_instance(details)

    def _last_result(self, workflow_id: str) -> list[Payload]:
        if workflow_id not in self.last_results:
            return []
        return self.converter.payload_converter.to_payloads([self.last_results[workflow_id]])

    async def _evict(self, run_id: str) -> None:
        instance = self._instances.pop(run_id, None)
        if instance is None:
            return
        last = WorkflowActivation(run_id=run_id)
        last.timestamp.FromDatetime(self.clock.now)
        last.jobs.add().remove_from_cache.message = "no longer needed"
        await _inline(lambda: instance.activate(last))


def _is_end(command: Any) -> bool:
    return command.WhichOneof("variant") in {
        "complete_workflow_execution",
        "fail_workflow_execution",
        "cancel_workflow_execution",
        "continue_as_new_workflow_execution",
    }


async def _inline(activate: Callable[[], WorkflowActivationCompletion]) -> WorkflowActivationCompletion:
    """Run a workflow's loop on this thread, between two steps of our own: no thread, no race."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[WorkflowActivationCompletion] = loop.create_future()

    def run() -> None:
        try:
            done.set_result(activate())
        except BaseException as error:
            done.set_exception(error)
        finally:
            asyncio._set_running_loop(loop)

    loop.call_soon(run)
    return await done
