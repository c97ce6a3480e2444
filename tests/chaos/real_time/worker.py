"""``python -m tests.chaos.real_time.worker``: Outlast's worker, whose process ends at the points of a plan.

The worker itself is unchanged but for one more interceptor, next to the activity: the process that ended looks to
everybody else like a machine that lost its power.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Lock
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from tests.chaos.real_time.plan import DIRECTORY, ENDED, Plan
from worker import __main__, registration


class Ends(Interceptor):
    """Ends the process if the plan says so."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = Lock()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Point(next, self._plan, self._lock)


class _Point(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, plan: Plan, lock: Lock) -> None:
        super().__init__(next)
        self._plan = plan
        self._lock = lock

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        with self._lock:
            call = self._plan.next(activity.info().activity_type)
        if call.mode == "before":
            os._exit(ENDED)
        result = await super().execute_activity(input)
        if call.mode == "after":
            os._exit(ENDED)
        if call.mode == "twice":
            return await super().execute_activity(input)
        return result


def main() -> int:
    """Run as ``python -m worker`` does."""
    ends = Ends(Plan(Path(os.environ[DIRECTORY])))

    def with_points(*arguments: Any, interceptors: list[Interceptor], **options: Any) -> Worker:
        return Worker(*arguments, interceptors=[*interceptors, ends], **options)

    registration.Worker = with_points  # type: ignore[assignment,misc]
    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
