"""One run of a workflow: its history, what waits for its next task, and what its commands set going."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from temporalio.api.common.v1 import (
    ActivityType,
    Header,
    Memo,
    Payload,
    Payloads,
    SearchAttributes,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.enums.v1 import (
    RetryState,
    SignalExternalWorkflowExecutionFailedCause,
    WorkflowExecutionStatus,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    ActivityTaskCanceledEventAttributes,
    ActivityTaskCancelRequestedEventAttributes,
    ActivityTaskCompletedEventAttributes,
    ActivityTaskFailedEventAttributes,
    ActivityTaskScheduledEventAttributes,
    ActivityTaskStartedEventAttributes,
    ActivityTaskTimedOutEventAttributes,
    ExternalWorkflowExecutionSignaledEventAttributes,
    SignalExternalWorkflowExecutionFailedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes,
    TimerCanceledEventAttributes,
    TimerFiredEventAttributes,
    TimerStartedEventAttributes,
    WorkflowExecutionCanceledEventAttributes,
    WorkflowExecutionCancelRequestedEventAttributes,
    WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionContinuedAsNewEventAttributes,
    WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionSignaledEventAttributes,
    WorkflowExecutionStartedEventAttributes,
    WorkflowExecutionTerminatedEventAttributes,
    WorkflowExecutionUpdateAcceptedEventAttributes,
    WorkflowExecutionUpdateCompletedEventAttributes,
    WorkflowTaskCompletedEventAttributes,
    WorkflowTaskScheduledEventAttributes,
    WorkflowTaskStartedEventAttributes,
)
from temporalio.api.sdk.v1 import UserMetadata, WorkflowTaskCompletedMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Outcome, Request
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from tests.simulation.attempts import Activity
from tests.simulation.clock import Due
from tests.simulation.history import History

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


@dataclass
class Update:
    """An update on its way: heard once, with its outcome."""

    id: str
    request: Request
    heard: Callable[[Outcome], None]
    accepted: int = 0  # the event that says so


class Execution:
    """A run. Whatever reaches it goes into its history and becomes a job of its next task."""

    def __init__(self, beginning: Beginning, run_id: str, simulation: "Simulation") -> None:
        self.beginning, self.run_id = beginning, run_id
        self.simulation = simulation
        self.history = History()
        self.began = simulation.clock.now
        self.closed_at = None
        self.status: WorkflowExecutionStatus.ValueType = RUNNING
        self.activations: list[WorkflowActivation] = []  # all that a worker which comes anew has to go through
        self.jobs: list[WorkflowActivationJob] = []
        self.timers: dict[int, tuple[int, Due]] = {}  # by sequence number: event, when it fires
        self.activities: dict[int, tuple[int, Activity]] = {}
        self.updates: dict[str, Update] = {}
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
        self._add(attributes, b.metadata)
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
        _copy(b.header, init.headers)
        self._wake(job)

    def signal(self, name: str, payloads: list[Payload], header: Header) -> None:
        event = self._add(
            WorkflowExecutionSignaledEventAttributes(signal_name=name, input=Payloads(payloads=payloads), header=header)
        )
        job = WorkflowActivationJob()
        job.signal_workflow.originating_event_id = event
        job.signal_workflow.signal_name = name
        job.signal_workflow.input.extend(payloads)
        _copy(header, job.signal_workflow.headers)
        self._wake(job)

    def cancel(self, reason: str) -> None:
        self._add(WorkflowExecutionCancelRequestedEventAttributes(cause=reason))
        job = WorkflowActivationJob()
        job.cancel_workflow.reason = reason
        self._wake(job)

    def terminate(self, reason: str) -> None:
        self._add(WorkflowExecutionTerminatedEventAttributes(reason=reason))
        self._close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED)

    def update(self, update: Update) -> None:
        self.updates[update.id] = update
        job = WorkflowActivationJob()
        do = job.do_update
        do.id = do.protocol_instance_id = update.id
        do.name = update.request.input.name
        do.input.extend(update.request.input.args.payloads)
        do.meta.CopyFrom(update.request.meta)
        do.run_validator = True
        _copy(update.request.input.header, do.headers)
        self._wake(job)

    def _wake(self, job: WorkflowActivationJob) -> None:
        self.jobs.append(job)
        self.simulation.wake(self)

    def _add(self, attributes: Message, metadata: UserMetadata | None = None) -> int:
        return self.history.add(self.simulation.clock.now, attributes, metadata)

    # --- its tasks

    async def task(self) -> None:
        """Give the workflow what has come, and do what it commands."""
        scheduled = self._add(
            WorkflowTaskScheduledEventAttributes(task_queue=TaskQueue(name=self.beginning.task_queue), attempt=1)
        )
        started = self._add(WorkflowTaskStartedEventAttributes(scheduled_event_id=scheduled))
        jobs, self.jobs = self.jobs, []
        commands: list[WorkflowCommand] = []
        flags: set[int] = set()
        while jobs:
            given, used = await self._activate(jobs)
            commands += given
            flags.update(used)
            jobs = [_cancelled(command) for command in self._let_go(given)]
        completed = self._add(
            WorkflowTaskCompletedEventAttributes(
                scheduled_event_id=scheduled,
                started_event_id=started,
                sdk_metadata=WorkflowTaskCompletedMetadata(lang_used_flags=sorted(flags)),
            )
        )
        for command in _without_the_undone(commands):
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
        activation.timestamp.FromDatetime(self.simulation.clock.now)
        return activation

    def _let_go(self, commands: list[WorkflowCommand]) -> list[int]:
        """Activities whose cancellation was commanded: the workflow hears so in the same task (TRY_CANCEL).

        One that ended meanwhile has been heard of in this very task.
        """
        asked = [c.request_cancel_activity.seq for c in commands if c.HasField("request_cancel_activity")]
        begun = {c.schedule_activity.seq for c in commands if c.HasField("schedule_activity")}
        return [seq for seq in asked if seq in self.activities or seq in begun]

    # --- its commands

    def _obey(self, command: WorkflowCommand, task: int) -> None:
        kind = command.WhichOneof("variant")
        obey: Callable[..., None] | None = getattr(self, f"_{kind}", None)
        if obey is None:
            raise NotImplementedError(f"the simulated service does not know the command {kind}")
        metadata = command.user_metadata if command.HasField("user_metadata") else None
        obey(getattr(command, str(kind)), task, metadata)

    def _start_timer(self, command: Any, task: int, metadata: UserMetadata | None) -> None:
        attributes = TimerStartedEventAttributes(
            timer_id=str(command.seq),
            start_to_fire_timeout=command.start_to_fire_timeout,
            workflow_task_completed_event_id=task,
        )
        event = self._add(attributes, metadata)
        seconds = command.start_to_fire_timeout.ToTimedelta().total_seconds()
        self.timers[command.seq] = event, self.simulation.clock.after(seconds, lambda: self._fire(command.seq))

    def _fire(self, seq: int) -> None:
        event, _ = self.timers.pop(seq)
        self._add(TimerFiredEventAttributes(timer_id=str(seq), started_event_id=event))
        job = WorkflowActivationJob()
        job.fire_timer.seq = seq
        self._wake(job)

    def _cancel_timer(self, command: Any, task: int, _: UserMetadata | None) -> None:
        if command.seq not in self.timers:  # it fired, and the task that cancels it hears of that, too
            return
        event, due = self.timers.pop(command.seq)
        due.call_off()
        self._add(
            TimerCanceledEventAttributes(
                timer_id=str(command.seq), started_event_id=event, workflow_task_completed_event_id=task
            )
        )

    def _schedule_activity(self, command: Any, task: int, metadata: UserMetadata | None) -> None:
        header = _header(command.headers)
        attributes = ActivityTaskScheduledEventAttributes(
            activity_id=command.activity_id or str(command.seq),
            activity_type=ActivityType(name=command.activity_type),
            task_queue=TaskQueue(name=command.task_queue),
            header=header,
            input=Payloads(payloads=command.arguments),
            schedule_to_close_timeout=command.schedule_to_close_timeout,
            start_to_close_timeout=command.start_to_close_timeout,
            heartbeat_timeout=command.heartbeat_timeout,
            workflow_task_completed_event_id=task,
            retry_policy=command.retry_policy,
        )
        event = self._add(attributes, metadata)
        seq = command.seq
        activity = self.simulation.new_activity(command, self.id, lambda *ended: self._ended(seq, *ended))
        self.activities[seq] = event, activity
        self.simulation.begin(activity)

    def _request_cancel_activity(self, command: Any, task: int, _: UserMetadata | None) -> None:
        if command.seq not in self.activities:  # it ended, and the task that cancels it hears of that, too
            return
        event, activity = self.activities[command.seq]
        requested = self._add(
            ActivityTaskCancelRequestedEventAttributes(scheduled_event_id=event, workflow_task_completed_event_id=task)
        )
        if activity.in_attempt:
            return  # it does not heartbeat, so it never hears of it, and its end is recorded
        activity.abandon()
        del self.activities[command.seq]
        self._add(
            ActivityTaskCanceledEventAttributes(scheduled_event_id=event, latest_cancel_requested_event_id=requested)
        )

    def _ended(self, seq: int, outcome: Payloads | Failure, state: RetryState.ValueType) -> None:
        if not self.is_open:
            return
        scheduled, activity = self.activities.pop(seq)
        started = ActivityTaskStartedEventAttributes(scheduled_event_id=scheduled, attempt=activity.attempt)
        if activity.last_failure is not None and isinstance(outcome, Payloads):
            started.last_failure.CopyFrom(activity.last_failure)
        event = self._add(started)
        job = WorkflowActivationJob()
        job.resolve_activity.seq = seq
        resolution = job.resolve_activity.result
        if isinstance(outcome, Payloads):
            self._add(
                ActivityTaskCompletedEventAttributes(
                    result=outcome, scheduled_event_id=scheduled, started_event_id=event
                )
            )
            resolution.completed.result.CopyFrom(outcome.payloads[0])
        else:
            timed_out = outcome.HasField("timeout_failure_info")
            kind = ActivityTaskTimedOutEventAttributes if timed_out else ActivityTaskFailedEventAttributes
            self._add(kind(failure=outcome, scheduled_event_id=scheduled, started_event_id=event, retry_state=state))
            failure = resolution.failed.failure
            failure.message = "Activity task timed out" if timed_out else "Activity task failed"
            failure.cause.CopyFrom(outcome)
            info = failure.activity_failure_info
            info.scheduled_event_id, info.started_event_id, info.retry_state = scheduled, event, state
            info.activity_type.name = activity.command.activity_type
            info.activity_id = activity.command.activity_id or str(seq)
        self._wake(job)

    def _signal_external_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        header = _header(command.headers)
        target = WorkflowExecution(
            workflow_id=command.workflow_execution.workflow_id, run_id=command.workflow_execution.run_id
        )
        event = self._add(
            SignalExternalWorkflowExecutionInitiatedEventAttributes(
                workflow_task_completed_event_id=task,
                namespace=self.simulation.namespace,
                workflow_execution=target,
                signal_name=command.signal_name,
                input=Payloads(payloads=command.args),
                header=header,
            )
        )

        def deliver() -> None:
            if self.is_open:
                self._delivered(command, target, event, header)

        self.simulation.clock.after(self.simulation.latency(), deliver)

    def _delivered(self, command: Any, target: WorkflowExecution, initiated: int, header: Header) -> None:
        job = WorkflowActivationJob()
        resolved = job.resolve_signal_external_workflow
        resolved.seq = command.seq
        other = self.simulation.find(target.workflow_id, target.run_id)
        if other is None or not other.is_open:
            cause = SignalExternalWorkflowExecutionFailedCause.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND  # noqa: E501
            self._add(
                SignalExternalWorkflowExecutionFailedEventAttributes(
                    cause=cause,
                    initiated_event_id=initiated,
                    namespace=self.simulation.namespace,
                    workflow_execution=target,
                )
            )
            resolved.failure.message = f"workflow {target.workflow_id} not found"
            resolved.failure.application_failure_info.type = "ExternalWorkflowExecutionNotFound"
        else:
            other.signal(command.signal_name, list(command.args), header)
            self._add(
                ExternalWorkflowExecutionSignaledEventAttributes(
                    initiated_event_id=initiated, namespace=self.simulation.namespace, workflow_execution=target
                )
            )
        self._wake(job)

    def _update_response(self, command: Any, _: int, __: UserMetadata | None) -> None:
        update = self.updates[command.protocol_instance_id]
        kind = command.WhichOneof("response")
        if kind == "accepted":
            update.accepted = self._add(
                WorkflowExecutionUpdateAcceptedEventAttributes(
                    protocol_instance_id=update.id,
                    accepted_request_message_id=f"{update.id}/request",
                    accepted_request_sequencing_event_id=len(self.history.events) - 2,
                    accepted_request=update.request,
                )
            )
            return
        del self.updates[update.id]
        outcome = Outcome()
        if kind == "rejected":
            outcome.failure.CopyFrom(command.rejected)
        else:
            outcome.success.payloads.append(command.completed)
            self._add(
                WorkflowExecutionUpdateCompletedEventAttributes(
                    meta=update.request.meta, accepted_event_id=update.accepted, outcome=outcome
                )
            )
        update.heard(outcome)

    # --- its end

    def _complete_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        self._add(
            WorkflowExecutionCompletedEventAttributes(
                result=Payloads(payloads=[command.result]), workflow_task_completed_event_id=task
            )
        )
        self._close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED)

    def _fail_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        self._add(
            WorkflowExecutionFailedEventAttributes(
                failure=command.failure,
                retry_state=RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET,
                workflow_task_completed_event_id=task,
            )
        )
        self._close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED)

    def _cancel_workflow_execution(self, _: Any, task: int, __: UserMetadata | None) -> None:
        self._add(WorkflowExecutionCanceledEventAttributes(workflow_task_completed_event_id=task))
        self._close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED)

    def _continue_as_new_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        b = self.beginning
        following = Beginning(
            workflow_id=b.workflow_id,
            workflow_type=command.workflow_type or b.workflow_type,
            task_queue=command.task_queue or b.task_queue,
            input=list(command.arguments),
            memo=b.memo,
            search_attributes=b.search_attributes,
            metadata=b.metadata,
            continued_from=self.run_id,
            first_run_id=b.first_run_id or self.run_id,
        )
        run_id = self.simulation.new_run_id()
        self._add(
            WorkflowExecutionContinuedAsNewEventAttributes(
                new_execution_run_id=run_id,
                workflow_type=WorkflowType(name=following.workflow_type),
                task_queue=TaskQueue(name=following.task_queue),
                input=Payloads(payloads=following.input),
                workflow_task_completed_event_id=task,
            )
        )
        waiting = [update for update in self.updates.values() if not update.accepted]
        self.updates = {update.id: update for update in self.updates.values() if update.accepted}
        self._close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW)
        run = self.simulation.start(following, run_id)
        for update in waiting:
            run.update(update)

    def _close(self, status: WorkflowExecutionStatus.ValueType) -> None:
        self.status = status
        self.closed_at = self.simulation.clock.now
        self.jobs.clear()
        for _, due in self.timers.values():
            due.call_off()
        for _, activity in self.activities.values():
            activity.abandon()
        for update in self.updates.values():
            update.heard(Outcome(failure=Failure(message="the workflow closed before the update completed")))
        self.simulation.forget(self)
        for heard in self.closing:
            heard()


def _header(headers: Mapping[str, Payload]) -> Header:
    """Of a command, in the service's form."""
    header = Header()
    for key, value in headers.items():
        header.fields[key].CopyFrom(value)
    return header


def _copy(header: Header, headers: Mapping[str, Payload]) -> None:
    """The other way round, into a job."""
    for key, value in header.fields.items():
        headers[key].CopyFrom(value)


def _cancelled(seq: int) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.resolve_activity.seq = seq
    failure = job.resolve_activity.result.cancelled.failure
    failure.message = "Activity cancelled"
    failure.activity_failure_info.SetInParent()
    failure.cause.canceled_failure_info.SetInParent()
    return job


def _without_the_undone(commands: list[WorkflowCommand]) -> list[WorkflowCommand]:
    """Timers and activities that the same task began and cancelled never reach the service."""
    begun = {("timer", c.start_timer.seq) for c in commands if c.HasField("start_timer")}
    begun |= {("activity", c.schedule_activity.seq) for c in commands if c.HasField("schedule_activity")}
    ended = {("timer", c.cancel_timer.seq) for c in commands if c.HasField("cancel_timer")}
    ended |= {("activity", c.request_cancel_activity.seq) for c in commands if c.HasField("request_cancel_activity")}
    undone = begun & ended

    def of(command: WorkflowCommand) -> tuple[str, int]:
        kind = str(command.WhichOneof("variant"))
        return kind.rsplit("_", 1)[-1], getattr(getattr(command, kind), "seq", -1)

    return [command for command in commands if of(command) not in undone]
