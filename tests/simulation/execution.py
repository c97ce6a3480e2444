"""One run of a workflow: its history, what waits for its next task, and who carries out its commands."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Memo, Payload, Payloads, SearchAttributes, WorkflowType
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.history.v1 import (
    WorkflowExecutionCancelRequestedEventAttributes,
    WorkflowExecutionSignaledEventAttributes,
    WorkflowExecutionStartedEventAttributes,
    WorkflowExecutionTerminatedEventAttributes,
    WorkflowTaskCompletedEventAttributes,
    WorkflowTaskScheduledEventAttributes,
    WorkflowTaskStartedEventAttributes,
)
from temporalio.api.sdk.v1 import UserMetadata, WorkflowTaskCompletedMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from tests.simulation.effects import Effects, cancelled, without_the_undone
from tests.simulation.ends import Ends
from tests.simulation.headers import fill
from tests.simulation.history import History, timestamp
from tests.simulation.limits import LOOK_BYTES, LOOK_EVENTS, Usage, keep_to
from tests.simulation.search_attributes import Indexed
from tests.simulation.updates import Updates

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

RUNNING = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
TASK_SECONDS = 10


@dataclass
class Beginning:
    """What a run begins with."""

    workflow_id: str
    workflow_type: str
    task_queue: str
    input: list[Payload]
    header: Header = field(default_factory=Header)
    memo: Memo = field(default_factory=Memo)
    search_attributes: SearchAttributes = field(default_factory=SearchAttributes)
    metadata: UserMetadata | None = None
    continued_from: str = ""
    first_run_id: str = ""

    def followed(
        self,
        run_id: str,
        workflow_type: str,
        task_queue: str,
        input: Iterable[Payload],
        search_attributes: SearchAttributes,
    ) -> "Beginning":
        """Return what the run after ``run_id`` begins with, by continue-as-new."""
        return replace(
            self,
            workflow_type=workflow_type or self.workflow_type,
            task_queue=task_queue or self.task_queue,
            input=list(input),
            header=Header(),
            search_attributes=search_attributes,
            continued_from=run_id,
            first_run_id=self.first_run_id or run_id,
        )


class Execution:
    """A run. Whatever reaches it goes into its history and becomes a job of its next task."""

    def __init__(self, beginning: Beginning, run_id: str, simulation: "Simulation") -> None:
        self.beginning, self.run_id = beginning, run_id
        self.simulation = simulation
        self.history = History()
        self.usage = Usage()
        self.began = simulation.clock.now
        self.closed_at = None
        self.status: WorkflowExecutionStatus.ValueType = RUNNING
        self.activations: list[WorkflowActivation] = []  # everything that a new worker has to go through
        self.jobs: list[WorkflowActivationJob] = []
        self.effects, self.updates, self.ends = Effects(self), Updates(self), Ends(self)
        self.indexed = Indexed(self)
        self.closing: list[Callable[[], None]] = []  # who waits for the end
        self._begin()

    @property
    def id(self) -> str:
        return self.beginning.workflow_id

    @property
    def is_open(self) -> bool:
        return self.status == RUNNING

    # --- what reaches it

    def _begin(self) -> None:
        b = self.beginning
        self.weigh(b.input)
        attributes = WorkflowExecutionStartedEventAttributes(
            workflow_type=WorkflowType(name=b.workflow_type),
            task_queue=TaskQueue(name=b.task_queue),
            input=Payloads(payloads=b.input),
            continued_execution_run_id=b.continued_from,
            original_execution_run_id=self.run_id,
            first_execution_run_id=b.first_run_id or self.run_id,
            attempt=1,
            memo=b.memo,
            search_attributes=b.search_attributes,
            header=b.header,
            workflow_id=b.workflow_id,
        )
        attributes.workflow_task_timeout.FromSeconds(TASK_SECONDS)
        self.add(attributes, b.metadata)
        job = WorkflowActivationJob()
        init = job.initialize_workflow
        init.workflow_type, init.workflow_id, init.attempt = b.workflow_type, b.workflow_id, 1
        init.arguments.extend(b.input)
        init.randomness_seed = self.simulation.random.getrandbits(62)
        init.continued_from_execution_run_id = b.continued_from
        init.first_execution_run_id, init.original_execution_run_id = b.first_run_id or self.run_id, self.run_id
        init.memo.CopyFrom(b.memo)
        init.search_attributes.CopyFrom(b.search_attributes)
        init.workflow_task_timeout.FromSeconds(TASK_SECONDS)
        init.start_time.FromDatetime(self.began)
        fill(init.headers, b.header)
        self.wake(job)

    def signal(self, name: str, payloads: list[Payload], header: Header) -> None:
        self.usage.signals += 1
        event = self.add(
            WorkflowExecutionSignaledEventAttributes(signal_name=name, input=Payloads(payloads=payloads), header=header)
        )
        job = WorkflowActivationJob()
        job.signal_workflow.originating_event_id = event
        job.signal_workflow.signal_name = name
        job.signal_workflow.input.extend(payloads)
        fill(job.signal_workflow.headers, header)
        self.wake(job)

    def cancel(self, reason: str) -> None:
        self.add(WorkflowExecutionCancelRequestedEventAttributes(cause=reason))
        job = WorkflowActivationJob()
        job.cancel_workflow.reason = reason
        self.wake(job)

    def terminate(self, reason: str) -> None:
        self.add(WorkflowExecutionTerminatedEventAttributes(reason=reason))
        self.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED)

    def wake(self, job: WorkflowActivationJob) -> None:
        """Tell the workflow of it in its next task."""
        self.jobs.append(job)
        self.simulation.wake(self)

    def add(self, attributes: Message, metadata: UserMetadata | None = None) -> int:
        """Add an event to the history, and return its number.

        Raises:
            LimitError: the run has passed a limit of the service.
        """
        event = self.history.add(self.simulation.clock.now, attributes, metadata)
        if event % LOOK_EVENTS == 0 or self.history.size > LOOK_BYTES:
            keep_to(self)
        return event

    def weigh(self, payloads: Iterable[Payload]) -> None:
        """Note the size of what a command or a caller hands on."""
        self.usage.payload_bytes = max(self.usage.payload_bytes, sum(payload.ByteSize() for payload in payloads))

    # --- its tasks

    async def task(self) -> None:
        """Give the workflow what has come, and carry out its commands."""
        scheduled = self.add(
            WorkflowTaskScheduledEventAttributes(task_queue=TaskQueue(name=self.beginning.task_queue), attempt=1)
        )
        started = self.add(WorkflowTaskStartedEventAttributes(scheduled_event_id=scheduled))
        jobs, self.jobs = self.jobs, []
        commands: list[WorkflowCommand] = []
        flags: set[int] = set()
        first = len(self.activations)
        while jobs:
            given, used = await self._activate(jobs)
            commands += given
            flags.update(used)
            jobs = [cancelled(command) for command in self.effects.let_go(given)]
        for command in commands:
            if command.HasField("set_patch_marker"):  # a worker that replays hears of it before the task
                self.activations[first].jobs.add().notify_has_patch.patch_id = command.set_patch_marker.patch_id
        completed = self.add(
            WorkflowTaskCompletedEventAttributes(
                scheduled_event_id=scheduled,
                started_event_id=started,
                sdk_metadata=WorkflowTaskCompletedMetadata(lang_used_flags=sorted(flags)),
            )
        )
        for command in without_the_undone(commands):
            self._obey(command, completed)

    async def _activate(self, jobs: list[WorkflowActivationJob]) -> tuple[list[WorkflowCommand], list[int]]:
        activation = self.activation(jobs)
        self.activations.append(activation)
        completion = await self.simulation.activate(self, activation)
        return list(completion.successful.commands), list(completion.successful.used_internal_flags)

    def activation(self, jobs: list[WorkflowActivationJob]) -> WorkflowActivation:
        activation = WorkflowActivation(
            run_id=self.run_id,
            history_length=len(self.history.events),
            history_size_bytes=self.history.size,
            continue_as_new_suggested=self.history.is_long,
            jobs=jobs,
        )
        activation.timestamp.CopyFrom(timestamp(self.simulation.clock.now))
        return activation

    def _obey(self, command: WorkflowCommand, task: int) -> None:
        kind = str(command.WhichOneof("variant"))
        parts = (self.effects, self.indexed, self.updates, self.ends)
        obey: Callable[..., None] | None = next((getattr(part, kind) for part in parts if hasattr(part, kind)), None)
        if obey is None:
            raise NotImplementedError(f"the simulated service does not know the command {kind}")
        metadata = command.user_metadata if command.HasField("user_metadata") else None
        obey(getattr(command, kind), task, metadata)

    # --- its end

    def close(self, status: WorkflowExecutionStatus.ValueType) -> None:
        """End the run, and tell whoever waits for its end."""
        self.status = status
        self.closed_at = self.simulation.clock.now
        self.jobs.clear()
        self.effects.call_off()
        self.updates.fail()
        self.simulation.forget(self)
        for heard in self.closing:
            heard()
