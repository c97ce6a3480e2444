"""What only the real server shows of a worker whose node fails: its polls stay, and get work that nobody does.

A process that is killed closes its connections, and so its polls. A node that loses its power does not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType, TaskQueueType, TimeoutType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from tests.bridge.proxy import proxied
from tests.bridge.recorder import eventually

QUEUE = "cut-off"
WORKFLOW_TASKS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW


@activity.defn
async def answer() -> None:
    """Answer a notice."""


@workflow.defn
class Answers:
    """Answers each notice by an activity, as a job requests a checkpoint."""

    def __init__(self) -> None:
        self._noticed = self._answered = 0

    @workflow.signal
    def notice(self) -> None:
        self._noticed += 1

    @workflow.run
    async def run(self, notices: int) -> None:
        while self._answered < notices:
            await workflow.wait_condition(lambda: self._noticed > self._answered)
            await workflow.execute_activity(answer, start_to_close_timeout=timedelta(seconds=3))
            self._answered += 1


@asynccontextmanager
async def worker(address: str, name: str) -> AsyncIterator[None]:
    client = await Client.connect(address)
    sticky = timedelta(seconds=1)
    made = Worker(
        client,
        task_queue=QUEUE,
        workflows=[Answers],
        activities=[answer],
        identity=name,
        sticky_queue_schedule_to_start_timeout=sticky,
    )
    task = asyncio.create_task(made.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def has_answered(handle: WorkflowHandle[Any, Any]) -> bool:
    """True if the workflow knows of its first answer, and is with its worker's own queue."""
    events = (await handle.fetch_history()).events
    answers = [at for at, each in enumerate(events) if each.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED]
    return any(each.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED for each in events[answers[0] :])


async def both_poll(client: Client) -> bool:
    queue = TaskQueue(name=QUEUE)
    request = DescribeTaskQueueRequest(namespace=client.namespace, task_queue=queue, task_queue_type=WORKFLOW_TASKS)
    found = await client.workflow_service.describe_task_queue(request)
    return {each.identity for each in found.pollers} >= {"fails", "stays"}


async def test_a_worker_whose_node_fails_holds_up_what_it_was_handed_for_one_time_out_and_not_two(
    temporal: Any,
) -> None:
    """Its own queue gives it the task. When the task is given out again, the common queue knows that it is dead."""
    client = await Client.connect(temporal.address)
    async with proxied(temporal.address) as proxy, worker(proxy.address, "fails"):
        handle = await client.start_workflow(Answers.run, 2, id="cut-off", task_queue=QUEUE)
        await handle.signal(Answers.notice)
        await eventually(lambda: has_answered(handle), "the first notice is answered")
        async with worker(temporal.address, "stays"):
            await eventually(lambda: both_poll(client), "both workers poll")
            proxy.stall()
            await handle.signal(Answers.notice)
            await asyncio.wait_for(handle.result(), 240)
            events = (await handle.fetch_history()).events
            late = [each.workflow_task_timed_out_event_attributes.timeout_type for each in events]
            assert late.count(TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE) <= 1
            proxy.flow()
