"""Small workflows, for the tests of the simulated service itself."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

AGAIN = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_attempts=3)


@workflow.defn
class Caller:
    """Calls one activity, and reports its result and the time."""

    @workflow.run
    async def run(self, name: str, timeout: float) -> str:
        began = workflow.now()
        try:
            result: str = await workflow.execute_activity(
                name, start_to_close_timeout=timedelta(seconds=timeout), retry_policy=AGAIN, result_type=str
            )
        except Exception as error:
            result = f"{type(error.__cause__).__name__}: {error.__cause__}"
        return f"{result} after {(workflow.now() - began).total_seconds():.2f} s"


@workflow.defn
class Counter:
    """Counts signals and updates, in as many runs as it takes, until ``limit`` if there is one."""

    def __init__(self) -> None:
        self.count = 0

    @workflow.run
    async def run(self, count: int, each: int, limit: int) -> int:
        self.count += count
        target = min(limit, count + each)
        await workflow.wait_condition(lambda: self.count >= target)
        if self.count < limit:
            workflow.continue_as_new(args=[self.count, each, limit])
        return self.count

    @workflow.signal
    def more(self) -> None:
        """Count one more."""
        self.count += 1

    @workflow.update
    async def add(self, number: int, after: float) -> int:
        """Add so many, after so many seconds."""
        if number < 0:
            raise ApplicationError("a negative number")
        await asyncio.sleep(after)
        self.count += number
        return self.count

    @workflow.query
    def counted(self) -> int:
        """Return the count."""
        return self.count


@workflow.defn
class Racer:
    """Lets an activity race a timer, and cancels the loser. It then rests, so that an attempt may end meanwhile."""

    @workflow.run
    async def run(self, name: str, patience: float, rest: float = 0) -> str:
        call = workflow.start_activity(name, start_to_close_timeout=timedelta(hours=1), retry_policy=AGAIN)
        done, _ = await workflow.wait([call], timeout=patience)
        if done:
            return "done"
        call.cancel()
        try:
            await call
        except ActivityError as error:
            await asyncio.sleep(rest)
            return type(error.cause).__name__
        return "done after all"


@workflow.defn
class Sender:
    """Signals another workflow."""

    @workflow.run
    async def run(self, to: str) -> str:
        try:
            await workflow.get_external_workflow_handle(to).signal("more")
        except ApplicationError as error:
            return str(error.type)
        return "sent"


@workflow.defn
class Patched:
    """Takes a new way, or the one from before, and reports which after a timer."""

    @workflow.run
    async def run(self) -> str:
        way = "new" if workflow.patched("way") else "old"
        await asyncio.sleep(1)
        return way if way == ("new" if workflow.patched("way") else "old") else "both"
