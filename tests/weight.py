"""What an open workflow costs a worker: the memory that it holds, and the processor time that brought it there.

``python -m tests.weight [COPIES]`` plays a job of two replicas on bought machines until it has trained for ten minutes,
and hands what the service handed to its workflows to many copies of each: without the SDK's sandbox, as the worker runs
them, and in it. Beside them stands a bare workflow. A process for each line, because memory that was used once is used
again. What the SDK's core holds besides is not in it: some 10 KB, and 2 KB for each activity of the history.
"""

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from clients.encryption import data_converter
from tests.simulation.simulation import Simulation
from tests.workflow_sandbox import sandbox
from tests.workflows import world

COPIES = 100
MINUTES = 10.0
RUNNERS: dict[str, Callable[[], WorkflowRunner]] = {"worker": UnsandboxedWorkflowRunner, "sandbox": sandbox}
KINDS = ("SpotInstanceJob", "SpotVM", "SpotMarket")


@workflow.defn
class Bare:
    """The floor: a workflow that waits for a signal."""

    def __init__(self) -> None:
        self.told = False

    @workflow.signal
    def tell(self) -> None:
        self.told = True

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.told)


@dataclass
class Life:
    """What the service has handed to one workflow."""

    details: WorkflowInstanceDetails
    activations: list[bytes] = field(default_factory=list)


class Recorder(UnsandboxedWorkflowRunner):
    """Runs workflows and notes their lives."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        life = self.lives[det.info.workflow_type] = Life(det)
        instance = super().create_instance(det)
        activate = instance.activate

        def recorded(act: WorkflowActivation) -> Any:
            life.activations.append(act.SerializeToString())
            return activate(act)

        instance.activate = recorded  # type: ignore[method-assign]
        return instance


async def lives() -> dict[str, Life]:
    """Play the story."""
    recorder = world.RUNNER = Recorder()
    made = world.World(Simulation(data_converter(None)))
    async with made.env.worker([Bare], [], recorder):
        await made.env.client.start_workflow(Bare.run, id="bare", task_queue=world.TASK_QUEUE)
        await made.env.settle()
    async with made.worker():
        await made.submit(replicas=2)
        await made.running(2)
        await made.pass_time(MINUTES * 60)
    return recorder.lives


async def revive(runner: WorkflowRunner, life: Life) -> WorkflowInstance:
    """Bring a copy of a workflow where the recorded one was."""
    instance = runner.create_instance(life.details)
    activations = [WorkflowActivation.FromString(each) for each in life.activations]
    await asyncio.to_thread(lambda: [instance.activate(each) for each in activations])
    return instance


async def measure(runner: WorkflowRunner, life: Life, copies: int) -> str:
    """Weigh so many copies."""
    await revive(runner, life)
    before, began = _memory(), time.process_time()
    held = [await revive(runner, life) for _ in range(copies)]
    milliseconds, kilobytes = 1000 * (time.process_time() - began) / copies, (_memory() - before) / copies
    del held
    return f"{kilobytes:7.0f} KB {milliseconds:8.1f} ms for {len(life.activations)} tasks"


def _memory() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.0


def main() -> None:
    """Print the table, or in a process of its own one line of it."""
    if len(sys.argv) > 3:
        copies, runner, kind = int(sys.argv[1]), *sys.argv[2:4]
        recorded = asyncio.run(lives())
        print(f"{runner:8} {kind:16}", asyncio.run(measure(RUNNERS[runner](), recorded[kind], copies)), flush=True)
        return
    copies = sys.argv[1] if len(sys.argv) > 1 else str(COPIES)
    for runner, kind in [("worker", "Bare"), *product(RUNNERS, KINDS)]:
        subprocess.run([sys.executable, "-m", "tests.weight", copies, runner, kind], check=True)


if __name__ == "__main__":
    main()
