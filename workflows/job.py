"""What the coroutines of one job share: its state, how they wait, and what they tell people."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Literal

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.signatures import JobEvent, JobRef, PatchSpec
    from api.common import Condition
    from api.messages import JobStart
    from api.spot_instance_job import SpotInstanceJobSpec

from workflows.state import Failure, JobState

EVENTS_KEPT = 50
LONGEST = 8192
"""Characters of a condition's or an Event's message: others' words are in it, and Temporal takes 2 MiB of state."""


class Job:
    """The state of a job with the few things that all its coroutines do to it."""

    def __init__(self, start: JobStart, state: JobState) -> None:
        self.start = start
        self.state = state
        self.parking = False  # a continue-as-new is near: nothing new is begun
        self.dirty = True  # for the writer of the status
        self.changed = True  # for the supervisor
        self.crash: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ref(self) -> JobRef:
        """The job's object, for activities."""
        start = self.start
        return JobRef(namespace=start.namespace, name=start.name, uid=start.uid, job_id=start.job_id)

    @property
    def spec(self) -> SpotInstanceJobSpec:
        """The spec; there is one as soon as the job is admitted."""
        assert self.state.spec is not None
        return self.state.spec

    @property
    def containers(self) -> list[str]:
        """Names of the template's containers, in their order."""
        return [container["name"] for container in self.spec.pod.get("containers", [])]

    @property
    def ending(self) -> bool:
        """No replica is to live any more."""
        return self.state.shutdown is not None or self.state.outcome is not None

    @property
    def closing(self) -> bool:
        """True if no coroutine is to go on: the job ends, or its next run takes over."""
        return self.parking or self.ending

    @property
    def busy(self) -> bool:
        """Some coroutine is still at work."""
        return bool(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine under supervision: what it raises is raised by the workflow's task, never lost."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.crash = self.crash or task.exception()
        self.changed = True

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> bool:
        """Wait for the condition or for parking; False where neither came before the deadline."""
        left = max(deadline - workflow.now(), timedelta(milliseconds=1))
        try:
            await workflow.wait_condition(
                lambda: condition() or self.parking, timeout=left, timeout_summary=waits_for[:200]
            )
        except TimeoutError:
            return False
        return True

    def after(self, seconds: float) -> datetime:
        """The moment so many seconds from now."""
        return workflow.now() + timedelta(seconds=seconds)

    def touch(self) -> None:
        """Something has changed: the supervisor looks, and people see it."""
        self.dirty = self.changed = True

    def wish(self, patch: PatchSpec) -> None:
        """A person's order: carried out by becoming the spec's."""
        self.state.wishes.append(patch)
        self.touch()

    def fail(self, reason: str, message: str) -> None:
        """Fail the whole job: the supervisor lets go of all replicas."""
        self.state.failure = self.state.failure or Failure(reason=reason, message=message)
        self.touch()

    def condition(self, kind: str, status: bool | None, reason: str, message: str = "") -> None:
        """Set a condition; its transition time moves with its status alone, as the API conventions ask."""
        word: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
        message = message[:LONGEST]
        old = self.state.conditions.get(kind)
        if old and (old.status, old.reason, old.message) == (word, reason, message):
            return
        since = old.last_transition_time if old and old.status == word else workflow.now()
        self.state.conditions[kind] = Condition(
            type=kind,
            status=word,
            reason=reason,
            message=message,
            last_transition_time=since,
            observed_generation=self.state.generation or None,
        )
        self.touch()

    def event(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell people in the CR's Events; the oldest untold ones give way where the API server is long away."""
        kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
        self.state.events.append(JobEvent(type=kind, reason=reason, message=message[:LONGEST], at=workflow.now()))
        del self.state.events[:-EVENTS_KEPT]
        workflow.logger.info("%s: %s", reason, message)
        self.touch()
