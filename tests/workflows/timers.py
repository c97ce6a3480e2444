"""Keeps workflows clear of a fault of the test server, which strands a run that cancels a timer in the moment it fires.

Where a timer fires while a workflow task is with the worker, and that task cancels the timer, the real server drops
the firing. The time-skipping test server refuses the task's completion ("invalid history builder state for action")
and never gives the workflow another one (temporalio/sdk-java#3088). Virtual time runs at real pace during a task, so
this takes two moments that are a few milliseconds apart, and a loaded machine.

The way out that the server does support: a task that *fails* brings the firing into the history, and the next task
begins with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowRunner

from tests.workflows.tap import Between, Passing

CLOSE = timedelta(seconds=1)  # between the look at the clock and the server's word on a completion
SURE = timedelta(seconds=0.1)  # after the moment in which a timer is due, until it has fired
LONGEST_TASK = timedelta(seconds=10)  # the service's own limit: no need to look at the clock for later timers


class CancelsNoFiringTimer(Between):
    """Fails a workflow task that would cancel a timer that fires meanwhile; it comes again, with the firing in it."""

    def __init__(self, inner: WorkflowRunner, now: Callable[[], Awaitable[datetime]]) -> None:
        """``now`` tells the server's clock; called on the event loop in which this is made."""
        loop = asyncio.get_running_loop()

        def read_clock() -> datetime:
            return asyncio.run_coroutine_threadsafe(_await(now()), loop).result(1)

        def watch(_: WorkflowInstance) -> Passing:
            return _Timers(read_clock)

        super().__init__(inner, watch)


async def _await(work: Awaitable[datetime]) -> datetime:
    return await work


class _Timers:
    """The open timers of one run."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._due: dict[int, datetime] = {}

    def __call__(
        self, activation: WorkflowActivation, completion: WorkflowActivationCompletion
    ) -> WorkflowActivationCompletion:
        """Keep the books, and let the completion pass, or a failure in its place."""
        began = activation.timestamp.ToDatetime(UTC)
        for job in activation.jobs:
            if job.HasField("fire_timer"):
                self._due.pop(job.fire_timer.seq, None)
        cancelled, begun = [], set[int]()
        for command in completion.successful.commands:
            if command.HasField("start_timer"):
                begun.add(command.start_timer.seq)
                self._due[command.start_timer.seq] = began + command.start_timer.start_to_fire_timeout.ToTimedelta()
            elif command.HasField("cancel_timer"):
                due = self._due.pop(command.cancel_timer.seq, None)  # None where it has fired just now
                # One that this very task began never reaches the server; the next task would begin and cancel it again.
                if due is not None and command.cancel_timer.seq not in begun:
                    cancelled.append(due)
        if activation.is_replaying or all(due > began + LONGEST_TASK for due in cancelled):
            return completion
        return self._or_failed(cancelled, completion)

    def _or_failed(
        self, cancelled: list[datetime], completion: WorkflowActivationCompletion
    ) -> WorkflowActivationCompletion:
        now = self._now()
        firing = [due for due in cancelled if due < now + CLOSE]
        if not firing:
            return completion
        time.sleep(max(0.0, (max(firing) + SURE - now).total_seconds()))
        failed = WorkflowActivationCompletion(run_id=completion.run_id)
        failed.failed.failure.message = "a timer fires that this task cancels: once more, with that in the history"
        return failed
