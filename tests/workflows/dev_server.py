"""A quick world on Temporal's real dev server, with real time: machines come, and pods start, at once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker, WorkflowRunner

from activities.signatures import EnsuredVm
from activities.temporal.fleet import FleetActivities
from api import names
from api.messages import VmStart
from api.timings import Timings
from clients.search_attributes import Registration, ensure
from sandbox.binaries import Binaries
from tests.simulation.clock import Clock
from tests.temporal_service import own_service
from tests.workflow_sandbox import sandbox
from tests.workflows import checkpoints, cloud, cluster, machines, world
from tests.workflows.estate import Estate
from tests.workflows.world import World

AT_ONCE = {
    cloud: ["CREATE_SECONDS", "DELETE_SECONDS"],
    machines: ["SSH_SECONDS", "JOIN_SECONDS", "READY_SECONDS"],
    cluster: ["SCHEDULE_SECONDS", "START_SECONDS", "STOP_SECONDS", "NOT_READY_SECONDS"],
}
TIMINGS = Timings(schedule_wait=3, verdict_delay=2, drain=5, retry=1, resync=20, owner_check=60)


class DevServer:
    """The real service, with real time."""

    def __init__(self, client: Client) -> None:
        self.client, self.clock = client, Clock()

    def driven(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: time passes by itself."""
        return contextlib.nullcontext()

    async def settle(self) -> None:
        """Do nothing: nothing here can be waited for."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(max(0.1, seconds))
        self.clock.advance(datetime.now(UTC))

    async def watch(self, seconds: float) -> None:
        """Let an activity wait; in these worlds everything is quick."""
        await asyncio.sleep(min(seconds, 0.1))
        self.clock.advance(datetime.now(UTC))  # the test itself may only wait for a workflow's end

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
        """Run a worker, which polls all queues, while this is open.

        No two workers of one ``client`` poll the same queue, so a second worker needs its own.
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
        # On a busy machine the SDK's deadlock detection, after two seconds, fails tasks by chance.
        worker._workflow_worker._deadlock_timeout_seconds = 30  # type: ignore[union-attr]
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(worker)
            for queue in (names.CREATES_QUEUE, names.LONG_QUEUE):
                await stack.enter_async_context(Worker(client, task_queue=queue, activities=activities, **options))
            yield


@contextlib.asynccontextmanager
async def quick_world(
    executables: Binaries, monkeypatch: pytest.MonkeyPatch, runner: WorkflowRunner | None = None
) -> AsyncIterator[World]:
    """Make a world on a dev server of its own, without a worker. The product's own activity ensures VMs.

    Workflows run in the SDK's sandbox, or as the ``runner`` runs them.
    """
    async with _dev_server(executables, monkeypatch, runner) as env:
        made = World(env)
        made.documents.uid = str(uuid.uuid4())
        _be_quick(made, monkeypatch)
        yield made
        assert made.mistakes == []


@contextlib.asynccontextmanager
async def quick_estate(
    executables: Binaries, monkeypatch: pytest.MonkeyPatch, jobs: int, dynamic_config: Mapping[str, str]
) -> AsyncIterator[Estate]:
    """Make several worlds on one dev server of their own; ``dynamic_config`` is the server's."""
    async with _dev_server(executables, monkeypatch, None, dynamic_config) as env:
        made = Estate(env, jobs)
        for each in made.worlds:
            _be_quick(each, monkeypatch)
        yield made
        assert [each.mistakes for each in made.worlds if each.mistakes] == []


@contextlib.asynccontextmanager
async def _dev_server(
    executables: Binaries,
    monkeypatch: pytest.MonkeyPatch,
    runner: WorkflowRunner | None,
    dynamic_config: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[DevServer]:
    """Start a server whose worlds are quick."""
    monkeypatch.setattr(world, "RUNNER", runner or sandbox())
    for module, constants in AT_ONCE.items():
        for constant in constants:
            monkeypatch.setattr(module, constant, 0.0)
    monkeypatch.setattr(world, "LONGEST_STEP", 0.2)
    monkeypatch.setattr(checkpoints, "PHASES", [(0.2, "Checkpointing"), (0.4, "Completed")])
    settings = [
        word for name, value in dynamic_config.items() for word in ("--dynamic-config-value", f"{name}={value}")
    ]
    async with own_service(executables, *settings) as client:
        await ensure(client, deadline=200)
        yield DevServer(client)


def _be_quick(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waits, and let the product's own activity ensure VMs."""
    made.patience = 5.0
    made.documents.timings = TIMINGS
    nothing = cast(Any, None)  # ensuring needs neither the cluster nor the cloud
    activities = FleetActivities(made.env.client, kube=nothing, attributes=Registration(True))

    async def ensure_vm(start: VmStart) -> EnsuredVm:
        made.fleet.keys = sorted({*made.fleet.keys, start.key})
        return await activities.ensure_vm(start)

    monkeypatch.setattr(made.fleet, "ensure_vm", ensure_vm)


def vm_of(real: World, number: int = 0) -> WorkflowHandle[Any, Any]:
    """Find the workflow of a VM, in the order of their keys."""
    return real.env.client.get_workflow_handle(names.vm_workflow_id(sorted(real.fleet.keys)[number]))
