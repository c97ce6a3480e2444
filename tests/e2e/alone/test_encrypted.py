"""Worker and bridge have keys: only whoever has them can read what Temporal stores of a job."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from tests.e2e.alone.keys import Codec, add_key
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(480)]

Kind = TypeVar("Kind", bound=Message)

WORD = "correct-horse-battery-staple"
STACK = '"stack_trace"'  # of a failure's encoded attributes
QUOTA = "PREEMPTIBLE_NVIDIA_T4_GPUS"
# Of a failure that is retried Temporal keeps at most 4 KiB; otherwise it says this instead.
UNTOLD = {"Encoded failure", "Failure exceeds size limit."}


async def test_nothing_is_read_without_keys_and_all_with_them_also_after_a_rotation(
    rig: Rig, namespace: str, keys: Path, codec: Codec
) -> None:
    job = await _start(rig, namespace)
    stored = await _stored(rig, job)
    assert not _plain(stored)
    assert {_key(each) for each in _of(stored, Payload)} == {"old"}
    failures = _of(stored, Failure)
    assert {each.message for each in failures} <= UNTOLD
    assert not any(each.stack_trace for each in failures)

    assert any(WORD in said for said in _decoded(await codec.workflow("show", "-w", f"{namespace}/sealed")))
    failed = [said for said in _decoded(await codec.workflow("show", "-w", f"vm:{job.id}-r0-v1")) if STACK in said]
    assert any("quota" in said.lower() for said in failed), failed

    await _rotate(rig, keys)
    await rig.kubectl("delete", "sij", job.name, "-n", namespace, "--timeout=360s", deadline=400)
    stored = await _stored(rig, job)
    assert not _plain(stored)
    assert {_key(each) for each in _of(stored, Payload)} == {"old", "new"}


async def _start(rig: Rig, namespace: str) -> Running:
    """Start a job whose VM is refused at first, so that a failure is stored."""
    await rig.control.fault("set_quota", QUOTA, 0, "us-central1", at_once=True)
    job = rig.job("sealed", replicas=1, interval="1h", WORD=WORD)
    await rig.apply(namespace, machine(), CREDENTIALS, job)
    running = Running(rig, namespace, "sealed")
    await running.until(lambda: "quota" in json.dumps(running.status).lower(), 60, "the refusal to be told")
    await rig.control.fault("set_quota", QUOTA, None, "us-central1")
    await running.trains(0)
    return running


async def _rotate(rig: Rig, keys: Path) -> None:
    """Add a key while both are down, so that neither writes what the other cannot read."""
    for process in ("worker", "bridge"):
        await rig.control.kill(process)
    await asyncio.to_thread(add_key, keys, "new")
    for process in ("worker", "bridge"):
        await rig.control.start(process)


async def _stored(rig: Rig, job: Running) -> list[Message]:
    """Collect all that Temporal tells somebody without keys of the job's workflows: descriptions and histories."""
    client = await Client.connect(rig.addresses["TEMPORAL_ADDRESS"])
    found: list[Message] = []
    async for run in client.list_workflows():
        if run.id == f"{job.namespace}/{job.name}" or job.id in run.id:
            handle = client.get_workflow_handle(run.id, run_id=run.run_id)
            events = [each for each in (await handle.fetch_history()).events if not _marks_patch(each)]
            found += [(await handle.describe()).raw_description, *events]
    return found


def _marks_patch(event: HistoryEvent) -> bool:
    """True if it is the SDK's own note of ``workflow.patched``: a patch's name, which no codec sees."""
    return event.marker_recorded_event_attributes.marker_name == "core_patch"


def _decoded(shown: Any) -> Iterator[str]:
    """Read the payloads of what the CLI prints, in the JSON of protobuf: bytes are base64."""
    if isinstance(shown, dict):
        if isinstance(shown.get("data"), str):
            yield base64.b64decode(shown["data"]).decode(errors="replace")
        shown = list(shown.values())
    if isinstance(shown, list):
        for each in shown:
            yield from _decoded(each)


def _plain(stored: list[Message]) -> list[Message]:
    """Collect what can be read. Names and types of workflows and activities are meant to be."""
    bare = [each for each in _of(stored, Payload) if each.metadata["encoding"] != b"binary/encrypted"]
    return bare + [each for each in stored if WORD.encode() in each.SerializeToString()]


def _key(payload: Payload) -> str:
    return payload.metadata["encryption-key-id"].decode()


def _of(stored: list[Message], kind: type[Kind]) -> list[Kind]:
    found = [part for each in stored for part in _parts(each) if isinstance(part, kind)]
    assert found, f"nothing stored is a {kind.__name__}"
    return found


def _parts(message: Message) -> Iterator[Message]:
    """List the message with all that is in it, except what a search needs to read."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or isinstance(value, SearchAttributes):
            continue
        if field.message_type.GetOptions().map_entry:
            inner = list(value.values())
        else:
            inner = [value] if isinstance(value, Message) else list(value)
        for each in inner:
            if isinstance(each, Message):
                yield from _parts(each)
