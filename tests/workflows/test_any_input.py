"""No input by signal, update or query makes a workflow's task fail. The simulation raises if one does."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import temporalio.workflow
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.service import RPCError, RPCStatusCode

from tests.simulation.simulation import Simulation
from tests.unit.generated import Chance
from tests.workflows.world import WORKFLOWS, World

MESSAGES = 60
SEEDS = range(12)
ENCODINGS = (b"json/plain", b"json/plain", b"json/plain", b"binary/null", b"binary/plain", b"json/protobuf", b"", b"x")
JUNK = (
    b"",
    b"null",
    b"{}",
    b"[]",
    b'"text"',
    b"17",
    b"NaN",
    b"{",
    b"\xff\xfe",
    b"[" * 3000,
    b"9" * 5000,
    b'{"replicas": 99}',
    b'{"replicas": true}',
    b'{"replica": 2}',
    b'{"replica": ' + b"9" * 400 + b"}",
    b'{"node": "\\ud800"}',
    b'{"replica": 0, "seconds": NaN}',
    b'{"replica": 0, "seconds": Infinity}',
    b'{"replica": 0, "seconds": -1e308}',
    b'{"source": "other", "at": "0001-01-01T00:00:00"}',
    b'{"source": "other", "at": "9999-12-31T23:59:59Z", "seconds": 1e308}',
    b'{"source": "' + b"x" * 10_000 + b'"}',
)


class Sender:
    """Makes random inputs: junk, and values of the type that a handler takes, about objects that exist."""

    def __init__(self, seed: int, known: dict[str, list[Any]]) -> None:
        self.random, self.chance, self.known = random.Random(seed), Chance(seed), known

    def inputs(self, types: list[Any]) -> list[RawValue]:
        if types and self.random.random() < 0.6:
            return [self._typed(types[0])]
        count = self.random.choice([0, 1, 1, 1, 2, 3])
        return [_raw(self.random.choice(ENCODINGS), self.random.choice(JUNK)) for _ in range(count)]

    def _typed(self, kind: Any) -> RawValue:
        value = self.chance.of(kind)
        content = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
        return _raw(b"json/plain", json.dumps(self._about_known(content)).encode())

    def _about_known(self, content: Any) -> Any:
        """Name what exists, and write times without a zone. What is about other objects is dropped at once."""
        if isinstance(content, dict):
            return {key: self._value(key, value) for key, value in content.items()}
        return [self._about_known(each) for each in content] if isinstance(content, list) else content

    def _value(self, key: str, value: Any) -> Any:
        if key in self.known and self.random.random() < 0.8:
            return self.random.choice(self.known[key])
        if isinstance(value, str) and value.endswith("Z") and self.random.random() < 0.3:
            return self.random.choice([value[:-1], "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
        return self._about_known(value)


def _raw(encoding: bytes, data: bytes) -> RawValue:
    return RawValue(Payload(metadata={"encoding": encoding}, data=data))


def handlers() -> Iterator[tuple[str, str, str, list[Any]]]:
    """List (workflow, kind, name, types of its input) of everything that can be sent."""
    for workflow in WORKFLOWS:
        definition = temporalio.workflow._Definition.must_from_class(workflow)
        for kind, found in (
            ("signal", definition.signals),
            ("update", definition.updates),
            ("query", definition.queries),
        ):
            for name, each in found.items():  # type: ignore[attr-defined]
                # These end a life, as they should.
                if name not in {"shutdown", "release"}:
                    yield str(definition.name), kind, name or "no_such_thing", list(each.arg_types or [])


async def send(handle: WorkflowHandle[Any, Any], kind: str, name: str, inputs: list[RawValue]) -> None:
    try:
        if kind == "signal":
            await handle.signal(name, args=inputs)
        elif kind == "update":
            await handle.execute_update(name, args=inputs)
        else:
            await handle.query(name, args=inputs)
    except (WorkflowUpdateFailedError, WorkflowQueryFailedError):
        pass
    except RPCError as error:  # the message has ended the workflow, or a query has failed
        if kind != "query" and error.status != RPCStatusCode.NOT_FOUND:
            raise


async def pass_time(world: World, seconds: float) -> None:
    """Let time pass in a world that was lied to. Here it does not matter if, say, two pods of a replica run."""
    try:
        await world.pass_time(seconds)
    except AssertionError as error:
        if error not in world.mistakes:
            raise
    world.mistakes.clear()


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_input_fails_a_task(world: World, seed: int) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    simulation = world.env
    assert isinstance(simulation, Simulation)
    start, nodes = world.documents.start, [world.node_of(0), world.node_of(1)]
    keys = [run.id.removeprefix("vm:") for run in simulation.runs() if run.id.startswith("vm:")]
    known = {
        "uid": [start.uid], "jobID": [start.job_id], "node": nodes, "nodeName": nodes, "vmName": nodes, "name": nodes,
        "key": keys, "replica": [0, 1], "incarnation": [0], "version": [10**9, 10**18], "asker": keys,
    }  # fmt: skip
    sender, chosen = Sender(seed, known), random.Random(seed)
    kinds = list(handlers())
    for _ in range(MESSAGES):
        workflow, kind, name, types = chosen.choice(kinds)
        runs = [run.id for run in simulation.runs() if run.beginning.workflow_type == workflow]
        if runs:
            handle = world.env.client.get_workflow_handle(chosen.choice(runs))
            await send(handle, kind, name, sender.inputs(types))
        await pass_time(world, chosen.choice([0, 1, 40]))
