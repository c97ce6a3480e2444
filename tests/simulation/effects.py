"""What a run's commands start beside it: timers, activities, signals to other runs.

Each method with the name of a command carries it out. It gets the command, the event of the task that gave it, and its
name in the history.
"""

import json
from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import ActivityType, Header, Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import RetryState, SignalExternalWorkflowExecutionFailedCause
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
    MarkerRecordedEventAttributes,
    SignalExternalWorkflowExecutionFailedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes,
    TimerCanceledEventAttributes,
    TimerFiredEventAttributes,
    TimerStartedEventAttributes,
)
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.workflow_activation import WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, WorkflowCommand

from tests.simulation.attempts import Activity
from tests.simulation.clock import Due
from tests.simulation.headers import header_of

if TYPE_CHECKING:
    from tests.simulation.execution import Execution


class Effects:
    """What is under way for one run."""

    def __init__(self, run: "Execution") -> None:
        self.run = run
        self.timers: dict[int, tuple[int, Due]] = {}  # by sequence number: its event, and when it fires
        self.activities: dict[int, tuple[int, Activity]] = {}

    def call_off(self) -> None:
        """Call off everything, because the run has ended."""
        for _, due in self.timers.values():
            due.call_off()
        for _, activity in self.activities.values():
            activity.abandon()

    # --- timers

    def start_timer(self, command: Any, task: int, metadata: UserMetadata | None) -> None:
        attributes = TimerStartedEventAttributes(
            timer_id=str(command.seq),
            start_to_fire_timeout=command.start_to_fire_timeout,
            workflow_task_completed_event_id=task,
        )
        event = self.run.add(attributes, metadata)
        seconds = command.start_to_fire_timeout.ToTimedelta().total_seconds()
        self.timers[command.seq] = event, self.run.simulation.clock.after(seconds, lambda: self._fire(command.seq))

    def _fire(self, seq: int) -> None:
        event, _ = self.timers.pop(seq)
        self.run.add(TimerFiredEventAttributes(timer_id=str(seq), started_event_id=event))
        job = WorkflowActivationJob()
        job.fire_timer.seq = seq
        self.run.wake(job)

    def cancel_timer(self, command: Any, task: int, _: UserMetadata | None) -> None:
        if command.seq not in self.timers:  # it fired, and the task that cancels it hears of that, too
            return
        event, due = self.timers.pop(command.seq)
        due.call_off()
        self.run.add(
            TimerCanceledEventAttributes(
                timer_id=str(command.seq), started_event_id=event, workflow_task_completed_event_id=task
            )
        )

    # --- patches

    def set_patch_marker(self, command: Any, task: int, _: UserMetadata | None) -> None:
        """Record that the workflow took the new way of ``workflow.patched``, as the SDK's core writes it."""
        told = json.dumps({"id": command.patch_id, "deprecated": command.deprecated}).encode()
        details = Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=told)])
        self.run.add(
            MarkerRecordedEventAttributes(
                marker_name="core_patch", details={"patch-data": details}, workflow_task_completed_event_id=task
            )
        )

    # --- activities

    def schedule_activity(self, command: Any, task: int, metadata: UserMetadata | None) -> None:
        """Begin an activity.

        Raises:
            NotImplementedError: the workflow does not hear of a cancellation at once (TRY_CANCEL, the SDK's default).
        """
        if command.cancellation_type != ActivityCancellationType.TRY_CANCEL:
            raise NotImplementedError("the simulated service knows no other cancellation of activities than TRY_CANCEL")
        header = header_of(command.headers)
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
        self.run.weigh(command.arguments)
        event = self.run.add(attributes, metadata)
        seq = command.seq
        activity = self.run.simulation.new_activity(command, self.run.id, lambda *ended: self._ended(seq, *ended))
        self.activities[seq] = event, activity
        usage = self.run.usage
        usage.pending_activities = max(usage.pending_activities, len(self.activities))
        self.run.simulation.begin(activity)

    def request_cancel_activity(self, command: Any, task: int, _: UserMetadata | None) -> None:
        if command.seq not in self.activities:  # it ended, and the task that cancels it hears of that, too
            return
        event, activity = self.activities[command.seq]
        requested = self.run.add(
            ActivityTaskCancelRequestedEventAttributes(scheduled_event_id=event, workflow_task_completed_event_id=task)
        )
        if activity.in_attempt and not activity.heartbeats:
            activity.given_up = True  # it never hears of it, and its end is recorded
            return
        activity.abandon()
        del self.activities[command.seq]
        self.run.add(
            ActivityTaskCanceledEventAttributes(scheduled_event_id=event, latest_cancel_requested_event_id=requested)
        )

    def _ended(self, seq: int, outcome: Payloads | Failure, state: RetryState.ValueType) -> None:
        """Record the end of an activity, and tell the workflow, unless it has heard of a cancellation before."""
        if not self.run.is_open:
            return
        scheduled, activity = self.activities.pop(seq)
        started = ActivityTaskStartedEventAttributes(scheduled_event_id=scheduled, attempt=activity.attempt)
        if activity.last_failure is not None and isinstance(outcome, Payloads):
            started.last_failure.CopyFrom(activity.last_failure)
        event = self.run.add(started)
        job = WorkflowActivationJob()
        job.resolve_activity.seq = seq
        resolution = job.resolve_activity.result
        if isinstance(outcome, Payloads):
            self.run.weigh(outcome.payloads)
            self.run.add(
                ActivityTaskCompletedEventAttributes(
                    result=outcome, scheduled_event_id=scheduled, started_event_id=event
                )
            )
            resolution.completed.result.CopyFrom(outcome.payloads[0])
        else:
            timed_out = outcome.HasField("timeout_failure_info")
            kind = ActivityTaskTimedOutEventAttributes if timed_out else ActivityTaskFailedEventAttributes
            self.run.add(kind(failure=outcome, scheduled_event_id=scheduled, started_event_id=event, retry_state=state))
            failure = resolution.failed.failure
            failure.message = "Activity task timed out" if timed_out else "Activity task failed"
            failure.cause.CopyFrom(outcome)
            info = failure.activity_failure_info
            info.scheduled_event_id, info.started_event_id, info.retry_state = scheduled, event, state
            info.activity_type.name = activity.command.activity_type
            info.activity_id = activity.command.activity_id or str(seq)
        if not activity.given_up:
            self.run.wake(job)

    def let_go(self, commands: list[WorkflowCommand]) -> list[int]:
        """Cancel activities by command: the workflow hears so in the same task (TRY_CANCEL).

        If one ended meanwhile, the workflow has heard of it in this very task.
        """
        asked = [c.request_cancel_activity.seq for c in commands if c.HasField("request_cancel_activity")]
        begun = {c.schedule_activity.seq for c in commands if c.HasField("schedule_activity")}
        return [seq for seq in asked if seq in self.activities or seq in begun]

    # --- signals

    def signal_external_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        header = header_of(command.headers)
        target = WorkflowExecution(
            workflow_id=command.workflow_execution.workflow_id, run_id=command.workflow_execution.run_id
        )
        event = self.run.add(
            SignalExternalWorkflowExecutionInitiatedEventAttributes(
                workflow_task_completed_event_id=task,
                namespace=self.run.simulation.namespace,
                workflow_execution=target,
                signal_name=command.signal_name,
                input=Payloads(payloads=command.args),
                header=header,
            )
        )

        def deliver() -> None:
            if self.run.is_open:
                self._delivered(command, target, event, header)

        self.run.simulation.clock.after(self.run.simulation.latency(), deliver)

    def _delivered(self, command: Any, target: WorkflowExecution, initiated: int, header: Header) -> None:
        job = WorkflowActivationJob()
        resolved = job.resolve_signal_external_workflow
        resolved.seq = command.seq
        other = self.run.simulation.find(target.workflow_id, target.run_id)
        if other is None or not other.is_open:
            cause = SignalExternalWorkflowExecutionFailedCause.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND  # noqa: E501
            self.run.add(
                SignalExternalWorkflowExecutionFailedEventAttributes(
                    cause=cause,
                    initiated_event_id=initiated,
                    namespace=self.run.simulation.namespace,
                    workflow_execution=target,
                )
            )
            resolved.failure.message = f"workflow {target.workflow_id} not found"
            resolved.failure.application_failure_info.type = "ExternalWorkflowExecutionNotFound"
        else:
            other.signal(command.signal_name, list(command.args), header)
            self.run.add(
                ExternalWorkflowExecutionSignaledEventAttributes(
                    initiated_event_id=initiated, namespace=self.run.simulation.namespace, workflow_execution=target
                )
            )
        self.run.wake(job)


def cancelled(seq: int) -> WorkflowActivationJob:
    job = WorkflowActivationJob()
    job.resolve_activity.seq = seq
    failure = job.resolve_activity.result.cancelled.failure
    failure.message = "Activity cancelled"
    failure.activity_failure_info.SetInParent()
    failure.cause.canceled_failure_info.SetInParent()
    return job


def without_the_undone(commands: list[WorkflowCommand]) -> list[WorkflowCommand]:
    """Leave out timers and activities that the same task began and cancelled: they never reach the service."""
    begun = {("timer", c.start_timer.seq) for c in commands if c.HasField("start_timer")}
    begun |= {("activity", c.schedule_activity.seq) for c in commands if c.HasField("schedule_activity")}
    ended = {("timer", c.cancel_timer.seq) for c in commands if c.HasField("cancel_timer")}
    ended |= {("activity", c.request_cancel_activity.seq) for c in commands if c.HasField("request_cancel_activity")}
    undone = begun & ended

    def of(command: WorkflowCommand) -> tuple[str, int]:
        kind = str(command.WhichOneof("variant"))
        return kind.rsplit("_", 1)[-1], getattr(getattr(command, kind), "seq", -1)

    return [command for command in commands if of(command) not in undone]
