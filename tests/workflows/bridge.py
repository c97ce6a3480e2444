"""The world's bridge: it reports to workflows what changed, as crd_bridge does, at once and in order."""

import asyncio
from typing import Any

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from api import names
from api.messages import JobStart, Shutdown


class Bridge:
    """Signals on their way. Some kinds may be lost, delivered twice, or delayed."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._queue: list[tuple[str, str, Any]] = []
        self._lock = asyncio.Lock()
        self._held_up: list[tuple[str, str, Any]] = []
        self.lost: set[str] = set()
        self.held: set[str] = set()
        self.twice = False

    def tell(self, workflow_id: str, signal: str, message: Any = None) -> None:
        """Queue a signal."""
        if signal not in self.lost:
            queue = self._held_up if signal in self.held else self._queue
            queue.extend([(workflow_id, signal, message)] * (2 if self.twice else 1))

    def let_go(self) -> None:
        """Deliver what was delayed, late and in its order."""
        self.held = set()
        self._queue, self._held_up = [*self._queue, *self._held_up], []

    async def flush(self) -> None:
        """Deliver what is queued."""
        async with self._lock:
            while self._queue:
                workflow_id, signal, message = self._queue.pop(0)
                handle = self._client.get_workflow_handle(workflow_id)
                try:
                    await handle.signal(signal, args=[] if message is None else [message])
                except RPCError as error:
                    if error.status != RPCStatusCode.NOT_FOUND:
                        raise

    async def start(self, job: JobStart) -> None:
        """Begin a job's workflow."""
        await self._client.start_workflow(
            names.JOB_WORKFLOW, job, id=names.job_workflow_id(job.namespace, job.name), task_queue=self._task_queue
        )

    async def shut_down(self, job: JobStart) -> None:
        """Delete the object: tell its open workflow, or begin one that tears down what it finds."""
        await self._client.start_workflow(
            names.JOB_WORKFLOW,
            job,
            id=names.job_workflow_id(job.namespace, job.name),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="shutdown",
            start_signal_args=[Shutdown(uid=job.uid)],
        )
