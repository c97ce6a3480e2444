"""What the coroutines of one job share: its state, how they wait, and how they write conditions and Events."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Literal

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.signatures import JobEvent, JobRef, PatchSpec
    from api.common import Condition
    from api.messages import JobStart
    from api.metrics import Metric
    from api.spot_instance_job import SpotInstanceJobSpec

from workflows.common.clock import Clock
from workflows.common.measures import measure
from workflows.common.patches import patched
from workflows.job.state.job import Failure, JobState

CHECK_SECONDS = 300.0
"""The longest time between two looks at what is not as it should be, or is just being begun."""

EVENTS_KEPT = 50
"""How many Events may wait to be written."""

LONGEST = 8192
"""The most characters in a message: it may quote others at length, and Temporal accepts 2 MiB of state at most."""


class Job:
    """One job: its state, with the few operations that all its coroutines need."""

    def __init__(self, start: JobStart, state: JobState) -> None:
        self.start = start
        self.state = state
        self.parking = False  # the run is about to end: nothing new is begun
        self.dirty = True  # for the writer of the status
        self.changed = True  # for the supervisor
        self.crash: BaseException | None = None
        self._urgent: set[str] = set()  # what goes ahead of everything else, and was not answered yet
        self._others_at = workflow.now()  # when everything else may go on
        self._tasks: set[asyncio.Task[None]] = set()
        # The same moments in all runs, because the hourly checks keep theirs, too.
        state.looks_from = state.looks_from or workflow.info().start_time
        self._clock = Clock(self._period, state.looks_from) if patched("one-clock") else None

    @property
    def ref(self) -> JobRef:
        """Return the reference to the SpotInstanceJob, for activities."""
        start = self.start
        return JobRef(namespace=start.namespace, name=start.name, uid=start.uid, job_id=start.job_id)

    @property
    def spec(self) -> SpotInstanceJobSpec:
        """Return the spec, which exists once the job is accepted."""
        assert self.state.spec is not None
        return self.state.spec

    @property
    def containers(self) -> list[str]:
        """Return the names of the template's containers, in their order."""
        return [container["name"] for container in self.spec.pod.get("containers", [])]

    @property
    def ending(self) -> bool:
        """True if the job is over, so that no replica may live any longer."""
        return self.state.shutdown is not None or self.state.outcome is not None

    @property
    def closing(self) -> bool:
        """True if no coroutine may go on: the job ends, or its next run takes over."""
        return self.parking or self.ending

    @property
    def busy(self) -> bool:
        """True if a coroutine still runs."""
        return bool(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine beside the others. What it raises fails the workflow's task, so that it is not lost."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.crash = self.crash or task.exception()
        self.changed = True

    def begin_urgent(self, what: str) -> None:
        """Ask for nothing else until ``end_urgent``: what saves a training goes out alone.

        In a storm of notices the service and the workers would otherwise be busy with searches for new machines while
        other trainings still wait for their checkpoint.
        """
        self._urgent.add(what)

    def end_urgent(self, what: str, pause: float = 0.0) -> None:
        """Let everything else go on in ``pause`` seconds, because it was answered or has failed."""
        self._urgent.discard(what)
        self._others_at = max(self._others_at, self.after(pause))

    async def after_urgent(self) -> None:
        """Wait until what is urgent was answered, which the attempts of its activity bound, and others' is, too."""
        if not (self._urgent or self._others_at > workflow.now()) or not patched("urgent-alone"):
            return
        if self._urgent:
            await workflow.wait_condition(lambda: not self._urgent or self.parking)
        if self._others_at > workflow.now():
            await self.until(lambda: False, self._others_at, "the checkpoints of other jobs")

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> bool:
        """Wait for the condition or the end of the run. False if neither came before the deadline."""
        if self._clock is not None:
            return await self._clock.wait(lambda: condition() or self.parking, deadline, waits_for)
        left = max(deadline - workflow.now(), timedelta(milliseconds=1))
        try:
            await workflow.wait_condition(
                lambda: condition() or self.parking, timeout=left, timeout_summary=waits_for[:200]
            )
        except TimeoutError:
            return False
        return True

    def start_clock(self) -> None:
        """Let waits end at their deadlines; ``stop_clock`` before the run ends."""
        if self._clock is not None:
            self._clock.start().add_done_callback(self._ended)

    def stop_clock(self) -> None:
        """Leave no timer behind."""
        if self._clock is not None:
            self._clock.stop()

    def next_look(self) -> datetime:
        """Find the next regular look at what nobody may have told of: once a resync, for all coroutines at once."""
        return self._clock.next_look() if self._clock is not None else self.after(self._period())

    def _period(self) -> float:
        """Return the seconds between two regular looks. Before the job was read, nobody has said how many."""
        return self.state.timings.resync if self.state.spec is not None else self.check_seconds

    @property
    def check_seconds(self) -> float:
        """Return the seconds between two looks at what is not as it should be, or is just being begun."""
        return min(self.state.timings.resync, CHECK_SECONDS)

    def next_check(self, at_most: float = CHECK_SECONDS) -> datetime:
        """Find the next look at something that is not as it should be, or that is just being begun.

        Checks that are due within ``at_most`` seconds come at the same moment, too.
        """
        if self._clock is not None:
            return self._clock.next_look(at_most)
        return self.after(min(self._period(), at_most))

    def after(self, seconds: float) -> datetime:
        """Return the time ``seconds`` from now."""
        return workflow.now() + timedelta(seconds=seconds)

    def touch(self) -> None:
        """Note that something has changed: the supervisor and the writer of the status look at it."""
        self.dirty = self.changed = True

    def edit(self, patch: PatchSpec) -> None:
        """Record a person's request, which is written into the spec."""
        self.state.edits.append(patch)
        self.touch()

    def fail(self, reason: str, message: str) -> None:
        """Fail the whole job. The supervisor then releases all replicas."""
        self.state.failure = self.state.failure or Failure(reason=reason, message=message)
        self.touch()

    def condition(self, kind: str, status: bool | None, reason: str, message: str = "") -> None:
        """Set a condition. Its transition time changes only with its status, as the API conventions require."""
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

    def measure(self, metric: Metric, value: float, **labels: str) -> None:
        """Add a value to a histogram, under the job's namespace."""
        measure(metric, max(0.0, value), job_namespace=self.start.namespace, **labels)

    def event(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Report something in an Event. While the API server is unreachable, only the newest Events are kept."""
        kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
        self.state.events.append(JobEvent(type=kind, reason=reason, message=message[:LONGEST], at=workflow.now()))
        del self.state.events[:-EVENTS_KEPT]
        workflow.logger.info("%s: %s", reason, message)
        self.touch()
