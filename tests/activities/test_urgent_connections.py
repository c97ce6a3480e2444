"""What answers a notice has connections to the API server of its own, whatever the other activities wait for."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.signatures import STOP_REPLICA, StopReplica
from api.names import TASK_QUEUE
from clients.kube import Kube, connect, path
from sandbox.temporal_server import TemporalServer
from tests.activities.world import World
from worker.registration import activities, build_workers
from worker.settings import from_environment
from worker.urgency import UrgentFirst

CONNECTIONS = 100
"""Connections that a client keeps open at once."""


@workflow.defn
class Stop:
    @workflow.run
    async def run(self, request: StopReplica) -> None:
        """Stop a replica, as after a notice."""
        limit = timedelta(seconds=STOP_REPLICA.timeout)
        await workflow.execute_activity(
            STOP_REPLICA.name, request, task_queue=TASK_QUEUE, schedule_to_close_timeout=limit
        )


@asynccontextmanager
async def busy(kube: Kube) -> AsyncIterator[None]:
    """Take all connections of a client, as logs and slow answers do."""
    where = path("v1", "namespaces")
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            events = kube.follow(where, "0", lasts=120, silence=120)
            await stack.enter_async_context(aclosing(events))
            await anext(events)
        yield


async def test_a_stop_waits_for_no_connection_of_others(
    temporal: TemporalServer, world: World, control_plane: Any
) -> None:
    settings = from_environment({"TEMPORAL_ADDRESS": temporal.address})
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    config = str(control_plane.kubeconfig)
    async with (
        await connect(config) as kube,
        await connect(config) as apart,
        build_workers(client, kube, settings, activities(client, kube, settings, apart=apart), UrgentFirst())[0],
        Worker(client, task_queue="asking", workflows=[Stop], workflow_runner=UnsandboxedWorkflowRunner()),
        busy(kube),
    ):
        request = StopReplica(ref=world.replica(), delete_job=False)
        await client.execute_workflow(Stop.run, request, id=secrets.token_hex(4), task_queue="asking")
