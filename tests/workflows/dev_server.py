"""A quick world on Temporal's real dev server, where time is real: machines come, and pods start, at once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkflowRunner

from activities.fleet import FleetActivities
from activities.signatures import EnsuredVm
from api import names
from api.messages import VmStart
from api.timings import Timings
from sandbox.binaries import Binaries
from tests.simulation.clock import Clock
from tests.workflows import checkpoints, cloud, cluster, machines, world
from tests.workflows.world import World
from worker.registration import sandbox

AT_ONCE = {
    cloud: ["CREATE_SECONDS", "DELETE_SECONDS"],
    machines: ["SSH_SECONDS", "JOIN_SECONDS", "READY_SECONDS"],
    cluster: ["SCHEDULE_SECONDS", "START_SECONDS", "STOP_SECONDS", "NOT_READY_SECONDS"],
}
TIMINGS = Timings(schedule_wait=3, verdict_delay=2, drain=5, retry=1, resync=20, owner_check=60)


class DevServer:
    """The real service, in real time."""

    def __init__(self, client: Client) -> None:
        self.client, self.clock = client, Clock()

    async def settle(self) -> None:
        """Nothing that could be waited for."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(max(0.1, seconds))
        self.clock.advance(datetime.now(UTC))

    @contextlib.asynccontextmanager
    async def worker(
        self,
        workflows: Sequence[type],
        activities: Sequence[Callable[..., Any]],
        runner: WorkflowRunner,
        *,
        client: Client | None = None,
        **options: Any,
    ) -> AsyncIterator[None]:
        """While this is open there is a worker, with a queue of its own for creations.

        Of one ``client`` no two workers poll the same queue: a second worker needs one of its own.
        """
        self.clock.advance(datetime.now(UTC))
        client = client or self.client
        worker = Worker(
            client,
            task_queue=names.TASK_QUEUE,
            workflows=workflows,
            activities=activities,
            workflow_runner=runner,
            **options,
        )
        # On a crowded machine the two seconds of its deadlock detection fail tasks by chance.
        worker._workflow_worker._deadlock_timeout_seconds = 30  # type: ignore[union-attr]
        async with (
            worker,
            Worker(client, task_queue=names.CREATES_QUEUE, activities=activities, **options),
        ):
            yield


@contextlib.asynccontextmanager
async def quick_world(
    executables: Binaries, monkeypatch: pytest.MonkeyPatch, runner: WorkflowRunner | None = None
) -> AsyncIterator[World]:
    """A world on a dev server of its own, without a worker; VMs are ensured by the product's own activity.

    Workflows run in the product's sandbox, or as the ``runner`` runs them.
    """
    monkeypatch.setattr(world, "RUNNER", runner or sandbox())
    for module, constants in AT_ONCE.items():
        for constant in constants:
            monkeypatch.setattr(module, constant, 0.0)
    monkeypatch.setattr(world, "LONGEST_STEP", 0.2)
    monkeypatch.setattr(checkpoints, "PHASES", [(0.2, "Checkpointing"), (0.4, "Completed")])
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(executables.temporal), data_converter=pydantic_data_converter
    )
    async with env:
        made = World(DevServer(env.client))
        made.documents.uid = str(uuid.uuid4())
        made.documents.timings = TIMINGS
        _ensure_for_real(made, monkeypatch)
        yield made
        assert made.mistakes == []


def _ensure_for_real(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = cast(Any, None)  # ensuring needs neither the cluster nor the cloud
    activities = FleetActivities(made.env.client, kube=nothing)

    async def ensure_vm(start: VmStart) -> EnsuredVm:
        made.fleet.keys = sorted({*made.fleet.keys, start.key})
        return await activities.ensure_vm(start)

    monkeypatch.setattr(made.fleet, "ensure_vm", ensure_vm)


def vm_of(real: World, number: int = 0) -> WorkflowHandle[Any, Any]:
    """The workflow of a VM, in the order of their keys."""
    return real.env.client.get_workflow_handle(names.vm_workflow_id(sorted(real.fleet.keys)[number]))
