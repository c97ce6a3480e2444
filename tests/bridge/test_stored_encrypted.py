"""Encrypted payloads on a real Temporal service: what it stores, byte by byte, and who can read it."""

import base64
import os
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    ScheduleState,
    WorkflowFailureError,
)
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Worker

from api import names
from clients import temporal as clients_temporal
from clients.installation import refuse_other_clusters
from clients.settings import connections
from sandbox.temporal_server import TemporalServer

SECRET = "correct-horse-battery-staple"


@activity.defn
async def fails(said: str) -> None:
    """Fail with everything that a failure can carry."""
    activity.heartbeat(f"heartbeat {said}")
    try:
        raise ValueError(f"cause {said}")
    except ValueError as error:
        raise ApplicationError(f"message {said}", f"detail {said}", type="Kind", non_retryable=True) from error


@activity.defn
async def echoes(said: str) -> str:
    """Return the input."""
    return f"result {said}"


@workflow.defn(sandboxed=False)
class Tells:
    """Sends everything that goes through a history."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.signal
    def hear(self, said: str) -> None:
        self.heard.append(said)

    @workflow.query
    def what(self) -> str:
        return f"answer {self.heard}"

    @workflow.update
    def change(self, said: str) -> str:
        return f"updated {said}"

    @workflow.run
    async def run(self, said: str, again: bool) -> str:
        await workflow.wait_condition(lambda: bool(self.heard) or not again)
        workflow.set_current_details(f"details {said}")
        await workflow.execute_activity(
            echoes, said, start_to_close_timeout=timedelta(seconds=10), summary=f"summary {said}"
        )
        try:
            await workflow.execute_activity(fails, said, start_to_close_timeout=timedelta(seconds=10))
        except ActivityError as error:
            self.heard.append(str(error.cause))
        if again:
            workflow.continue_as_new(args=[said, False])
        raise ApplicationError(f"the end of {said}", non_retryable=True)


@pytest.fixture
def environment(temporal: TemporalServer, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "keys"
    file.write_text(f"k1 {base64.b64encode(os.urandom(32)).decode()}\n")
    return {"TEMPORAL_ADDRESS": temporal.address, "OUTLAST_PAYLOAD_KEYS_FILE": str(file), "TEMPORAL_CONFIG_FILE": ""}


async def connect(environment: dict[str, str]) -> Client:
    return await clients_temporal.connect(connections(environment), Runtime(telemetry=TelemetryConfig()))


@pytest.fixture
async def encrypting(environment: dict[str, str]) -> AsyncIterator[tuple[Client, str]]:
    """Make a client as the product's, and a task queue with a worker of its own."""
    client, queue = await connect(environment), f"encrypted-{secrets.token_hex(4)}"
    async with Worker(client, task_queue=queue, workflows=[Tells], activities=[fails, echoes]):
        yield client, queue


async def test_temporal_stores_nothing_that_can_be_read(
    encrypting: tuple[Client, str], temporal: TemporalServer
) -> None:
    client, queue = encrypting
    handle = await client.start_workflow(
        Tells.run, args=[SECRET, True], id=f"{queue}/1", task_queue=queue,
        memo={"uid": f"memo {SECRET}"}, static_summary=f"summary {SECRET}", static_details=f"details {SECRET}",
    )  # fmt: skip
    first = (await handle.describe()).run_id
    assert await handle.execute_update(Tells.change, SECRET) == f"updated {SECRET}"
    await handle.signal(Tells.hear, f"signal {SECRET}")
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    # Whoever has the keys reads all of it.
    assert str(failed.value.cause) == f"the end of {SECRET}"
    assert await (await handle.describe()).memo() == {"uid": f"memo {SECRET}"}
    assert await handle.query(Tells.what) == f"answer ['Kind: message {SECRET}']"

    raw = await Client.connect(temporal.address)
    events = 0
    for run_id in (first, (await handle.describe()).run_id):
        history = await raw.get_workflow_handle(f"{queue}/1", run_id=run_id).fetch_history()
        for event in history.events:
            events += 1
            assert SECRET.encode() not in event.SerializeToString(), event
        described = await raw.get_workflow_handle(f"{queue}/1", run_id=run_id).describe()
        assert SECRET.encode() not in described.raw_description.SerializeToString()
    assert events > 30  # both runs were checked


async def test_a_plain_signal_of_a_person_is_understood(
    encrypting: tuple[Client, str], temporal: TemporalServer
) -> None:
    client, queue = encrypting
    handle = await client.start_workflow(Tells.run, args=["x", True], id=f"{queue}/2", task_queue=queue)
    raw = await Client.connect(temporal.address)
    await raw.get_workflow_handle(f"{queue}/2").signal("hear", "from the CLI")
    with pytest.raises(WorkflowFailureError):
        await handle.result()


async def test_who_lacks_the_keys_is_told_so(environment: dict[str, str]) -> None:
    client = await connect(environment)
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(names.SWEEP_WORKFLOW, id=names.SWEEP_SCHEDULE, task_queue=names.TASK_QUEUE),
        spec=ScheduleSpec(),
        state=ScheduleState(paused=True),
    )
    handle = await client.create_schedule(names.SWEEP_SCHEDULE, schedule, memo={"cluster": "this-cluster"})
    try:
        await refuse_other_clusters(client, "this-cluster")
        without: dict[str, Any] = {**environment, "OUTLAST_PAYLOAD_KEYS_FILE": ""}
        with pytest.raises(ConnectionError, match="keys that OUTLAST_PAYLOAD_KEYS_FILE does not contain"):
            await refuse_other_clusters(await connect(without), "this-cluster")
    finally:
        await handle.delete()
