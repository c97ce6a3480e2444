"""The commands by which a run ends: completed, failed, cancelled, or continued as new."""

from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import Payloads, WorkflowType
from temporalio.api.enums.v1 import RetryState, WorkflowExecutionStatus
from temporalio.api.history.v1 import (
    WorkflowExecutionCanceledEventAttributes,
    WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionContinuedAsNewEventAttributes,
    WorkflowExecutionFailedEventAttributes,
)
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue

if TYPE_CHECKING:
    from tests.simulation.execution import Execution


class Ends:
    """The ways in which one run may end."""

    def __init__(self, run: "Execution") -> None:
        self.run = run

    def complete_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        self.run.add(
            WorkflowExecutionCompletedEventAttributes(
                result=Payloads(payloads=[command.result]), workflow_task_completed_event_id=task
            )
        )
        self.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED)

    def fail_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        self.run.add(
            WorkflowExecutionFailedEventAttributes(
                failure=command.failure,
                retry_state=RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET,
                workflow_task_completed_event_id=task,
            )
        )
        self.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED)

    def cancel_workflow_execution(self, _: Any, task: int, __: UserMetadata | None) -> None:
        self.run.add(WorkflowExecutionCanceledEventAttributes(workflow_task_completed_event_id=task))
        self.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED)

    def continue_as_new_workflow_execution(self, command: Any, task: int, _: UserMetadata | None) -> None:
        following = self.run.beginning.followed(
            self.run.run_id,
            command.workflow_type,
            command.task_queue,
            command.arguments,
            self.run.indexed.attributes,
        )
        run_id = self.run.simulation.new_run_id()
        self.run.add(
            WorkflowExecutionContinuedAsNewEventAttributes(
                new_execution_run_id=run_id,
                workflow_type=WorkflowType(name=following.workflow_type),
                task_queue=TaskQueue(name=following.task_queue),
                input=Payloads(payloads=following.input),
                search_attributes=following.search_attributes,
                workflow_task_completed_event_id=task,
            )
        )
        waiting = self.run.updates.unheard()
        self.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW)
        run = self.run.simulation.start(following, run_id)
        for update in waiting:
            run.updates.begin(update)
