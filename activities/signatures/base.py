"""How an activity is named and typed, and what all of them refer to."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from api.model import Model

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Signature(Generic[In, Out]):
    """One activity. ``timeout`` is its start-to-close time-out in seconds, never over a minute."""

    name: str
    takes: type[In]
    gives: type[Out]
    timeout: float = 20
    heartbeat: float | None = None
    queue: str | None = None  # a task queue of its own, where its rate is bounded


class Done(Model):
    """There is nothing to tell but that it is done."""


class JobRef(Model):
    """A SpotInstanceJob object; ``uid`` tells it from one of the same name created later."""

    namespace: str
    name: str
    uid: str
    job_id: str
