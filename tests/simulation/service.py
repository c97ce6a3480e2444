"""The service's own protocol, answered in this process: a real ``temporalio.client.Client`` speaks to it.

The messages are those of temporal.api.workflowservice.v1. What no test needs is refused by name.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from temporalio.api.common.v1 import GrpcStatus, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    HistoryEventFilterType,
    UpdateWorkflowExecutionLifecycleStage,
    WorkflowExecutionStatus,
    WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
)
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.update.v1 import Outcome
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryResponse,
    QueryWorkflowResponse,
    RequestCancelWorkflowExecutionResponse,
    SignalWithStartWorkflowExecutionResponse,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionResponse,
    TerminateWorkflowExecutionResponse,
    UpdateWorkflowExecutionResponse,
)
from temporalio.bridge.proto.workflow_activation import WorkflowActivationJob
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

from tests.simulation.execution import Beginning, Execution
from tests.simulation.search_attributes import why_refused
from tests.simulation.updates import Update

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class SimulatedService(ServiceClient):
    """Answers the calls that a client makes."""

    def __init__(self, simulation: "Simulation") -> None:
        super().__init__(ConnectConfig(target_host="in this process", lazy=True))
        self._simulation = simulation

    @property
    def worker_service_client(self) -> Any:
        raise NotImplementedError("no SDK worker runs on the simulated service: use Simulation.worker")

    def update_rpc_metadata(self, metadata: Any) -> None:
        pass

    def update_api_key(self, api_key: str | None) -> None:
        pass

    async def _rpc_call(
        self,
        rpc: str,
        req: Any,
        resp_type: Any,
        *,
        service: str,
        retry: bool,
        metadata: Any,
        timeout: timedelta | None,
    ) -> Any:
        answer: Callable[[Any, timedelta | None], Awaitable[Message]] | None = getattr(self, f"_{rpc}", None)
        if answer is None:
            raise NotImplementedError(f"the simulated service does not answer {rpc}")
        return await answer(req, timeout)

    # --- starts and signals

    async def _start_workflow_execution(self, req: Any, _: timedelta | None) -> Message:
        run, started = self._start(req)
        return StartWorkflowExecutionResponse(run_id=run.run_id, started=started)

    async def _signal_with_start_workflow_execution(self, req: Any, _: timedelta | None) -> Message:
        run, started = self._start(req, WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING)
        run.signal(req.signal_name, list(req.signal_input.payloads), req.header)
        return SignalWithStartWorkflowExecutionResponse(run_id=run.run_id, started=started)

    def _start(self, req: Any, policy: int = 0) -> tuple[Execution, bool]:
        last = self._simulation.find(req.workflow_id)
        if last is not None and last.is_open:
            use = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
            if use in {policy, req.workflow_id_conflict_policy}:
                return last, False
            raise _already_started(req, last)
        if last is not None and not _may_be_used_again(last, req.workflow_id_reuse_policy):
            raise _already_started(req, last)
        if refusal := why_refused(req.search_attributes):
            raise RPCError(refusal, RPCStatusCode.INVALID_ARGUMENT, b"")
        beginning = Beginning(
            workflow_id=req.workflow_id,
            workflow_type=req.workflow_type.name,
            task_queue=req.task_queue.name,
            input=list(req.input.payloads),
            header=req.header,
            memo=req.memo,
            search_attributes=req.search_attributes,
            metadata=req.user_metadata if req.HasField("user_metadata") else None,
        )
        return self._simulation.start(beginning, self._simulation.new_run_id()), True

    async def _signal_workflow_execution(self, req: Any, _: timedelta | None) -> Message:
        self._open(req.workflow_execution).signal(req.signal_name, list(req.input.payloads), req.header)
        return SignalWorkflowExecutionResponse()

    # --- ends

    async def _request_cancel_workflow_execution(self, req: Any, _: timedelta | None) -> Message:
        self._open(req.workflow_execution).cancel(req.reason)
        return RequestCancelWorkflowExecutionResponse()

    async def _terminate_workflow_execution(self, req: Any, _: timedelta | None) -> Message:
        self._open(req.workflow_execution).terminate(req.reason)
        return TerminateWorkflowExecutionResponse()

    # --- looks

    async def _describe_workflow_execution(self, req: Any, _: timedelta | None) -> Message:
        run = self._known(req.execution)
        info = WorkflowExecutionInfo(
            execution=WorkflowExecution(workflow_id=run.id, run_id=run.run_id),
            type=WorkflowType(name=run.beginning.workflow_type),
            status=run.status,
            history_length=len(run.history.events),
            history_size_bytes=run.history.size,
            memo=run.beginning.memo,
            search_attributes=run.indexed.attributes,
            task_queue=run.beginning.task_queue,
        )
        info.start_time.FromDatetime(run.began)
        if run.closed_at is not None:
            info.close_time.FromDatetime(run.closed_at)
        return DescribeWorkflowExecutionResponse(workflow_execution_info=info)

    async def _query_workflow(self, req: Any, _: timedelta | None) -> Message:
        run = self._known(req.execution)
        job = WorkflowActivationJob()
        job.query_workflow.query_id = "query"
        job.query_workflow.query_type = req.query.query_type
        job.query_workflow.arguments.extend(req.query.query_args.payloads)
        result = await self._simulation.query(run, job)
        if result.HasField("failed"):
            raise RPCError(result.failed.message, RPCStatusCode.INVALID_ARGUMENT, b"")
        response = QueryWorkflowResponse()
        response.query_result.payloads.append(result.succeeded.response)
        return response

    async def _get_workflow_execution_history(self, req: Any, timeout: timedelta | None) -> Message:
        run = self._known(req.execution)
        closing = HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
        if req.wait_new_event and run.is_open:
            await self._simulation.wait(run.closing.append, timeout)
        response = GetWorkflowExecutionHistoryResponse()
        events = run.history.events
        response.history.events.extend(events[-1:] if req.history_event_filter_type == closing else events)
        return response

    # --- updates

    async def _update_workflow_execution(self, req: Any, timeout: timedelta | None) -> Message:
        run = self._open(req.workflow_execution)
        if (refusal := run.updates.refusal()) is not None:
            raise RPCError(refusal, RPCStatusCode.RESOURCE_EXHAUSTED, b"")
        outcomes: list[Outcome] = []

        def begin(resume: Callable[[], None]) -> None:
            def heard(outcome: Outcome) -> None:
                outcomes.append(outcome)
                resume()

            run.updates.begin(Update(req.request.meta.update_id, req.request, heard))

        await self._simulation.wait(begin, timeout)
        response = UpdateWorkflowExecutionResponse(
            outcome=outcomes[0],
            stage=UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED,
        )
        response.update_ref.update_id = req.request.meta.update_id
        response.update_ref.workflow_execution.workflow_id = run.id
        response.update_ref.workflow_execution.run_id = run.run_id
        return response

    # --- which run

    def _known(self, execution: WorkflowExecution) -> Execution:
        run = self._simulation.find(execution.workflow_id, execution.run_id)
        if run is None:
            raise RPCError(f"workflow {execution.workflow_id} not found", RPCStatusCode.NOT_FOUND, b"")
        return run

    def _open(self, execution: WorkflowExecution) -> Execution:
        run = self._known(execution)
        if not run.is_open:
            raise RPCError("workflow execution already completed", RPCStatusCode.NOT_FOUND, b"")
        return run


def _may_be_used_again(last: Execution, policy: int) -> bool:
    if policy == WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE:
        return False
    if policy == WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY:
        return last.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
    return True


def _already_started(req: Any, last: Execution) -> RPCError:
    detail = AnyMessage()
    detail.Pack(WorkflowExecutionAlreadyStartedFailure(start_request_id=req.request_id, run_id=last.run_id))
    status = GrpcStatus(code=RPCStatusCode.ALREADY_EXISTS, message="already started", details=[detail])
    return RPCError("already started", RPCStatusCode.ALREADY_EXISTS, status.SerializeToString())
