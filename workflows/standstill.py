"""A guard against steps that end at once without having changed anything: taken again and again they never pause.

Whatever makes a step do so is a bug. The guard keeps a bug from filling histories and from burning calls: it pauses,
longer each time, and says so.
"""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.backoff import back_off

QUICK = timedelta(seconds=0.4)
"""A step that took longer has waited for something: the shortest pause of a step is the 0.5 s of a joining Node."""
FIRST_PAUSE = 1.0


class Standstill:
    """Watches the steps of one coroutine over the state that they work on."""

    def __init__(self, state: BaseModel) -> None:
        self._state = state
        self._times = 0
        self.begin()

    def begin(self) -> None:
        """Remember how things are before a step."""
        self._began, self._before = workflow.now(), self._state.model_copy(deep=True)

    def pause(self) -> timedelta | None:
        """Decide how long to pause before the next step; None after one that changed the state or took its time."""
        if workflow.now() - self._began >= QUICK or self._state != self._before:
            self._times = 0
            return None
        self._times += 1
        if self._times == 1:  # a step may find at once that another coroutine has changed what it was to do
            return None
        return back_off(self._times - 1, FIRST_PAUSE, ceiling=300.0)
