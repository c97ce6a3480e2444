"""A worker that is stopped closes all its queues at once, because its pod is killed after a while."""

import asyncio
import contextlib
import secrets
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from sandbox.temporal_server import TemporalServer
from worker.registration import at_work

GRACE = timedelta(minutes=1)
QUEUES = ("stopping-a", "stopping-b", "stopping-c")
BEGUN, STOPPING = asyncio.Barrier(len(QUEUES) + 1), asyncio.Barrier(len(QUEUES))
ENDED: list[str] = []


@activity.defn
async def lasts() -> None:
    """End once the workers of all queues stop. If they stopped one after the other, the first would wait in vain."""
    await BEGUN.wait()
    await activity.wait_for_worker_shutdown()
    await STOPPING.wait()
    ENDED.append(activity.info().task_queue)


@workflow.defn
class Begin:
    @workflow.run
    async def run(self) -> None:
        """Begin an activity on each queue."""
        limit = timedelta(minutes=5)
        await asyncio.gather(
            *(workflow.execute_activity(lasts, task_queue=each, start_to_close_timeout=limit) for each in QUEUES)
        )


async def test_all_queues_end_within_one_grace(temporal: TemporalServer) -> None:
    client = await Client.connect(temporal.address)
    workers = [
        Worker(client, task_queue=queue, activities=[lasts], graceful_shutdown_timeout=GRACE) for queue in QUEUES
    ]
    async with Worker(client, task_queue="begin", workflows=[Begin], workflow_runner=UnsandboxedWorkflowRunner()):
        async with at_work(workers):
            run = await client.start_workflow(Begin.run, id=secrets.token_hex(4), task_queue="begin")
            await asyncio.wait_for(BEGUN.wait(), 150)
        assert sorted(ENDED) == list(QUEUES)
        with contextlib.suppress(RPCError):  # it has ended already if a worker told of the end of its activity
            await run.terminate()
