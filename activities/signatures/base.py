"""How an activity is named and typed, and what all activities refer to."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from api.model import Model
from api.names import LONG_QUEUE

PROMPT = 20.0
"""The longest time-out, in seconds, of an activity that is expected to be done at once."""

In = TypeVar("In")
Out = TypeVar("Out")


PATIENT = 60.0
"""The heartbeat time-out of a call that watches. Each heartbeat that reaches the service is a billed action."""

WAITED_FOR = 30.0
"""The same if a training waits for what is watched: a creation and a join, whose lost attempt is soon followed."""

MARGIN = 35.0
"""The seconds that a call which watches may take longer than it is to watch: its last look."""


@dataclass(frozen=True)
class Signature(Generic[In, Out]):
    """One activity. ``timeout`` is its start-to-close time-out in seconds, more than a minute only if it watches."""

    name: str
    takes: type[In]
    gives: type[Out]
    timeout: float = 20
    heartbeat: float | None = None
    queue: str | None = None  # a task queue of its own, which limits its rate

    def watching(self, seconds: float) -> "Signature[In, Out]":
        """Let it watch something for so long. The activity learns that from its time-outs."""
        return replace(self, timeout=seconds + MARGIN, heartbeat=WAITED_FOR if self.heartbeat else PATIENT)

    @property
    def task_queue(self) -> str | None:
        """Name its task queue; None for that of the workflow.

        An activity that may last waits for a machine, a registry or a bucket most of the time. It has another queue,
        so that two hundred joining VMs take no slot of what is done at once.
        """
        if self.queue is None and self.timeout > PROMPT:
            return LONG_QUEUE
        return self.queue


class Done(Model):
    """The work is done, and there is nothing else to report."""


class JobRef(Model):
    """A SpotInstanceJob; ``uid`` distinguishes it from one of the same name created later."""

    namespace: str
    name: str
    uid: str
    job_id: str
