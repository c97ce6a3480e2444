"""Workflows under the product's names that only remember what they receive."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from api import names
    from api.messages import JobStart, VmStart


class Memory:
    """Remembers what it receives, as (signal, message), and ends on the signal ``finish``."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.over = False

    @workflow.signal
    def finish(self) -> None:
        self.over = True

    @workflow.signal(dynamic=True)
    def anything(self, name: str, arguments: Sequence[RawValue]) -> None:
        message = workflow.payload_converter().from_payload(arguments[0].payload, dict)
        self.messages.append((name, message))

    @workflow.query
    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        return self.messages


@workflow.defn(name=names.JOB_WORKFLOW)
class Recorder(Memory):
    """Takes the place of SpotInstanceJob."""

    @workflow.run
    async def run(self, start: JobStart) -> str:
        await workflow.wait_condition(lambda: self.over)
        return start.uid


@workflow.defn(name=names.VM_WORKFLOW)
class VmRecorder(Memory):
    """Takes the place of SpotVM."""

    @workflow.run
    async def run(self, start: VmStart) -> None:
        await workflow.wait_condition(lambda: self.over)


async def heard(client: Client, workflow_id: str, signal: str) -> list[dict[str, Any]]:
    """List the messages of one kind that the latest run under this id received."""
    everything = await client.get_workflow_handle(workflow_id).query("heard", result_type=list[Any])
    return [message for name, message in everything if name == signal]


async def eventually(question: Callable[[], Awaitable[Any]], what: str, deadline: float = 150) -> Any:
    """Ask until the answer is true, for at most the deadline, and return it."""
    end = asyncio.get_running_loop().time() + deadline
    problem: Exception | None = None
    while asyncio.get_running_loop().time() < end:
        try:
            if answer := await question():
                return answer
        except Exception as error:  # not there yet; raised if it never comes
            problem = error
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not within {deadline} s ({problem})")


def handle(client: Client, workflow_id: str) -> WorkflowHandle[Any, Any]:
    """Return a handle of the latest run under this id."""
    return client.get_workflow_handle(workflow_id)
