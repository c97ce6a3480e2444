"""OpenTelemetry traces of what follows from a notice: from the taint over bridge and workflow to each activity.

Off unless ``OUTLAST_TRACES`` or ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where they go; only then this module is imported.
A trace begins with a ``preemption_notice`` that the bridge passes on, at the moment that the node's taint names. All
that the workflow does in the next minutes, and what its activities start and signal, belongs to it. Nothing else is
traced, so that an idle installation sends nothing.

The context is in the header ``_tracer-data`` of signals, starts and activities, as Temporal's own interceptors write
it. A workflow reads it from its history alone, so a replay gives the same and sends nothing again.
"""

import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Interceptor as ClientInterceptor,
)
from temporalio.client import OutboundInterceptor, SignalWorkflowInput, StartWorkflowInput, WorkflowHandle
from temporalio.converter import PayloadConverter
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker import Interceptor as WorkerInterceptor

NOTICE = "preemption_notice"
HEADER = "_tracer-data"
FOLLOWS = timedelta(minutes=15)
"""What a workflow does for so long after a signal that has a trace belongs to that trace."""
_SPAN = "outlast_span"
_PROPAGATOR = TraceContextTextMapPropagator()
_CONVERTER = PayloadConverter.default
Headers = Mapping[str, Payload]


def exporter(endpoint: str) -> SpanExporter:
    """Make what sends spans to a collector by OTLP over HTTP.

    Args:
        endpoint: its URL, with or without the path ``/v1/traces``; empty: as ``OTEL_EXPORTER_OTLP_*`` say.
    """
    if not endpoint:
        return OTLPSpanExporter()
    whole = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    return OTLPSpanExporter(endpoint=whole)


def traces(endpoint: str) -> "Traces":
    """Send traces to a collector, in the background."""
    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "outlast"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(exporter(endpoint)))
    return Traces(provider.get_tracer("outlast"))


class Traces(ClientInterceptor, WorkerInterceptor):
    """Follows a notice through clients, workflows and activities."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Wrap the calls of a client."""
        return _Calls(next, self.tracer)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity."""
        return _Activity(next, self.tracer)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Wrap a workflow."""
        input.unsafe_extern_functions[_SPAN] = self._span
        return _Workflow

    def _span(self, name: str, header: Payload, at: int, workflow_id: str) -> None:
        """Send a span without a duration, for something that a workflow heard."""
        span = self.tracer.start_span(name, _context(header), start_time=at, attributes={"workflow": workflow_id})
        span.end(at)


class _Calls(OutboundInterceptor):
    """Begins a trace with a notice, and continues the one of an activity that calls."""

    def __init__(self, next: OutboundInterceptor, tracer: trace.Tracer) -> None:
        super().__init__(next)
        self._tracer = tracer

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        if input.signal != NOTICE or _traced():
            with self._call(f"signal {input.signal}", input):
                return await super().signal_workflow(input)
        notice = input.args[0] if input.args else None
        told = getattr(notice, "at", None)
        began = int(told.timestamp() * 1e9) if isinstance(told, datetime) else None
        attributes = {"workflow": input.id, "node": str(getattr(notice, "node", ""))}
        with (
            self._tracer.start_as_current_span("notice", start_time=began, attributes=attributes),
            self._call(f"signal {input.signal}", input),
        ):
            return await super().signal_workflow(input)

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        with self._call(f"start {input.workflow}", input):
            return await super().start_workflow(input)

    @contextmanager
    def _call(self, name: str, input: SignalWorkflowInput | StartWorkflowInput) -> Any:
        """Make a span of a call that belongs to a trace, and hand the trace on."""
        if not _traced():
            yield
            return
        with self._tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes={"workflow": input.id}):
            input.headers = {**input.headers, HEADER: _header()}
            yield


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, tracer: trace.Tracer) -> None:
        super().__init__(next)
        self._tracer = tracer

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        header = input.headers.get(HEADER)
        if header is None:
            return await super().execute_activity(input)
        about = activity.info()
        attributes: dict[str, str | int] = {"workflow": about.workflow_id or "", "attempt": about.attempt}
        with self._tracer.start_as_current_span(
            f"activity {about.activity_type}", _context(header), SpanKind.CONSUMER, attributes
        ):
            return await super().execute_activity(input)


class _Cause:
    """The trace to which belongs what a workflow does now."""

    def __init__(self) -> None:
        self._header: Payload | None = None
        self._until: datetime | None = None

    def heard(self, name: str, headers: Headers) -> None:
        """Take over the trace of a message, if it has one."""
        header = headers.get(HEADER)
        if header is None:
            return
        self._header, self._until = header, workflow.now() + FOLLOWS
        if not workflow.unsafe.is_replaying():
            tell = workflow.extern_functions()[_SPAN]
            tell(name, header, workflow.time_ns(), workflow.info().workflow_id)

    def added(self, headers: Headers) -> Headers:
        """Add the trace to the headers of a command, as long as it lasts."""
        if self._header is None or self._until is None or workflow.now() > self._until:
            return headers
        return {**headers, HEADER: self._header}


class _Workflow(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self._cause = _Cause()
        super().init(_Commands(outbound, self._cause))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        self._cause.heard(f"workflow {workflow.info().workflow_type}", input.headers)
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        self._cause.heard(f"workflow hears {input.signal}", input.headers)
        await super().handle_signal(input)


class _Commands(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, cause: _Cause) -> None:
        super().__init__(next)
        self._cause = cause

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        return super().start_activity(replace(input, headers=self._cause.added(input.headers)))

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        await super().signal_external_workflow(replace(input, headers=self._cause.added(input.headers)))


def _traced() -> bool:
    return trace.get_current_span().get_span_context().is_valid


def _header() -> Payload:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return _CONVERTER.to_payloads([carrier])[0]


def _context(header: Payload) -> Context:
    return _PROPAGATOR.extract(_CONVERTER.from_payloads([header])[0])
