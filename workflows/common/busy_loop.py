"""A guard against busy loops: steps that end at once without having changed anything, again and again.

Such a step is a bug. The guard keeps the bug from filling the history and wasting calls: it asks for a pause, longer
each time.
"""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.backoff import back_off

QUICK = timedelta(seconds=0.4)
"""A step that took longer has waited for something. The shortest wait is half a second, for a joining Node."""

FIRST_PAUSE = 1.0
"""Seconds."""


class BusyLoopGuard:
    """Watches the steps of one coroutine and the state that they work on."""

    def __init__(self, state: BaseModel) -> None:
        self._state = state
        self._times = 0
        self.begin()

    def begin(self) -> None:
        """Remember the time and the state before a step: as JSON, which is smaller than a copy."""
        self._began, self._before = workflow.now(), self._state.model_dump_json()

    def pause(self) -> timedelta | None:
        """Decide how long to pause before the next step; None if this one changed the state or took its time."""
        if workflow.now() - self._began >= QUICK or self._state.model_dump_json() != self._before:
            self._times = 0
            return None
        self._times += 1
        if self._times == 1:  # once is normal: another coroutine may have changed what the step was to do
            return None
        return back_off(self._times - 1, FIRST_PAUSE, ceiling=300.0)
