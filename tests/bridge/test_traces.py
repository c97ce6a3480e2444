"""A trace leads from the taint of a Node through the bridge and the workflow to the request for a checkpoint."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

from api import names
from api.messages import JobStart, NodeNotice
from api.views import NodeView
from clients.settings import connections
from clients.traces import FOLLOWS, Traces
from crd_bridge.temporal import Gateway
from sandbox.temporal_server import TemporalServer
from tests.bridge.conftest import REPOSITORY
from tests.replay.recorded import read, recorded
from worker.registration import WORKFLOWS

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@workflow.defn(name=names.JOB_WORKFLOW, sandboxed=False)
class Job:
    """Notes in a handler and acts in its run, as the real one does."""

    def __init__(self) -> None:
        self.noticed = self.over = False

    @workflow.run
    async def run(self, start: JobStart) -> None:
        await self._call("look_around")
        await workflow.wait_condition(lambda: self.noticed)
        await self._call("create_checkpoint")
        await workflow.wait_condition(lambda: self.over)
        await self._call("clean_up")

    async def _call(self, name: str) -> None:
        await workflow.execute_activity(name, start_to_close_timeout=FOLLOWS)

    @workflow.signal
    def preemption_notice(self, notice: NodeNotice) -> None:
        self.noticed = True

    @workflow.signal
    def finish(self) -> None:
        self.over = True


@activity.defn
async def create_checkpoint() -> None:
    """Follows a notice."""


@activity.defn
async def clean_up() -> None:
    """Comes soon enough after it."""


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(temporal: TemporalServer, spans: InMemorySpanExporter) -> Client:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    interceptors = [Traces(provider.get_tracer("outlast"))]
    return await Client.connect(temporal.address, data_converter=pydantic_data_converter, interceptors=interceptors)


async def test_one_trace_from_the_notice_to_the_checkpoint(
    traced: Client, spans: InMemorySpanExporter, namespace: str
) -> None:
    start = JobStart(namespace=namespace, name="train", uid="u", cluster_id="c", job_id="0a1b2c3d")
    gateway, workflow_id = Gateway(traced), names.job_workflow_id(namespace, "train")
    notice = NodeNotice(node="vm-1", source="agent", at=AT, view=NodeView(name="vm-1", uid="n", exists=True), version=1)
    looked = asyncio.Event()

    @activity.defn
    async def look_around() -> None:
        """Belong to no notice."""
        looked.set()

    worker = Worker(
        traced, task_queue=names.TASK_QUEUE, workflows=[Job], activities=[look_around, create_checkpoint, clean_up],
        workflow_runner=UnsandboxedWorkflowRunner(), max_cached_workflows=0,
    )  # fmt: skip
    async with worker:  # which replays the workflow at each of its tasks
        await gateway.start(start)
        handle = traced.get_workflow_handle(workflow_id)
        await asyncio.wait_for(looked.wait(), 60)
        assert await gateway.signal(workflow_id, "preemption_notice", notice)
        await handle.signal("finish")
        await asyncio.wait_for(handle.result(), 60)
    told = {span.name: span for span in spans.get_finished_spans()}
    assert len(told) == len(spans.get_finished_spans()) == 5, "each once, and nothing of what is not about the notice"
    notice_, signal = told["notice"], told["signal preemption_notice"]
    assert notice_.start_time == int(AT.timestamp() * 1e9)
    assert notice_.attributes == {"workflow": workflow_id, "node": "vm-1"}
    assert parent(signal) == notice_.context.span_id
    for name in ("workflow hears preemption_notice", "activity create_checkpoint", "activity clean_up"):
        assert parent(told[name]) == signal.context.span_id, name
        assert told[name].context.trace_id == notice_.context.trace_id
    spans.clear()
    history = await handle.fetch_history()
    for interceptors in ([], traced.config()["interceptors"]):
        replayer = Replayer(
            workflows=[Job], data_converter=pydantic_data_converter, interceptors=interceptors,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )  # fmt: skip
        await replayer.replay_workflow(history)
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("name", recorded())
async def test_what_earlier_releases_recorded_goes_on_with_traces(
    name: str, traced: Client, spans: InMemorySpanExporter
) -> None:
    replayer = Replayer(
        workflows=WORKFLOWS, data_converter=pydantic_data_converter, interceptors=traced.config()["interceptors"],
        workflow_runner=UnsandboxedWorkflowRunner(), debug_mode=True,
    )  # fmt: skip
    await replayer.replay_workflow(read(name))
    assert spans.get_finished_spans() == ()


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def test_without_a_setting_nothing_is_imported() -> None:
    ask = "import json, sys, worker.__main__, crd_bridge.__main__; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", ask], cwd=REPOSITORY, capture_output=True, check=True).stdout
    loaded = json.loads(said)
    assert "clients.temporal" in loaded
    ours = ("opentelemetry.sdk", "opentelemetry.exporter", "clients.traces")
    assert not [each for each in loaded if each.startswith(ours)]


@pytest.mark.parametrize(
    ("environment", "collector"),
    [
        ({}, None),
        ({"OUTLAST_TRACES": "http://collector:4318"}, "http://collector:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ""),
    ],
)
def test_either_variable_turns_them_on(environment: dict[str, str], collector: str | None) -> None:
    found: Any = connections(environment).traces
    assert found == collector


def test_a_collector_is_a_url() -> None:
    with pytest.raises(ValueError, match="OUTLAST_TRACES='collector:4318' is no URL"):
        connections({"OUTLAST_TRACES": "collector:4318"})
