"""People's requests in a job's state: those that are still to be answered, and what was said of others."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from activities.signatures import PatchSpec
from api.spot_instance_job import RequestStatus
from api.views import NodeView
from workflows.common.stored import Mutable, Renamed

RequestName = Literal["suspend", "resume", "resize", "checkpoint_now", "preemption_notice"]
ANSWERS_KEPT = 20
"""Answers to updates by their ids: a client that asks again after continue-as-new gets the same one."""
MISTAKES_KEPT = 20
MISTAKE_LASTS = timedelta(hours=1)
"""As long as Kubernetes keeps an Event: the same mistake is reported again after that."""


class Request(Mutable):
    """What a person wants, and what came of it."""

    name: RequestName
    suspend: bool | None = None
    replicas: int | None = None
    replica: int | None = None  # whose machine is to go
    node: str | None = None
    source: str = "person"
    seconds: float | None = None
    at: datetime | None = None
    view: NodeView | None = None  # the Node under it, as the bridge saw it
    version: int = 0  # of that Node
    checkpoint: int | None = None  # number of the checkpoint that answers it
    done: str = ""  # what came of it
    failed: str = ""  # why nothing comes of it

    @property
    def edits(self) -> bool:
        """True if it is carried out by an edit of the spec."""
        return self.suspend is not None or self.replicas is not None

    def is_edit(self, patch: PatchSpec) -> bool:
        """True if this edit of the spec carries it out."""
        return (self.suspend, self.replicas) == (patch.suspend, patch.replicas)


class RequestsState(Renamed):
    """All that is remembered of requests; bounded, because it travels with the state."""

    STORED_NAMES: ClassVar[dict[str, str]] = {"annotation": "request", "annotated": "requested"}

    open: list[Request] = []  # updates that wait for their answer; none of them outlives a run
    annotation: RequestStatus | None = None  # the annotation that was read last, and its answer
    annotated: Request | None = None  # what that asks for, until it is answered
    answers: dict[str, str] = {}  # by the update's id
    unread: bool = False  # the spec may have been edited since it was read last
    mistakes: dict[str, datetime] = {}  # which mistakes were reported, and when

    def pending(self) -> Iterator[Request]:
        """Go through the requests that are not answered yet."""
        yield from self.open
        if self.annotated is not None:
            yield self.annotated

    def checkpoint_begun(self, number: int) -> None:
        """Note which checkpoint answers those who asked for one."""
        for request in self.pending():
            if request.name == "checkpoint_now" and request.checkpoint is None:
                request.checkpoint = number

    def checkpoint_ended(self, number: int, *, done: str = "", failed: str = "") -> None:
        """Note what became of a checkpoint: its record may be dropped before its request is answered."""
        for request in self.pending():
            if request.checkpoint == number:
                request.done, request.failed = done, failed

    def checkpoint_not_possible(self, why: str) -> None:
        """Note why those who asked for a checkpoint get none."""
        for request in self.pending():
            if request.name == "checkpoint_now" and request.checkpoint is None:
                request.failed = why

    def edit_refused(self, patch: PatchSpec, why: str) -> None:
        """Note that the API server refused an edit of the spec."""
        for request in self.pending():
            if request.edits and request.is_edit(patch):
                request.failed = f"the API server refuses this edit of the spec: {why}"

    def keep_answer(self, update: str, answer: str) -> None:
        """Remember what an update was answered."""
        self.answers[update] = answer
        for old in list(self.answers)[:-ANSWERS_KEPT]:
            del self.answers[old]

    def is_news(self, mistake: str, now: datetime) -> bool:
        """True if a mistake is to be reported: the first of each kind, and once that there are too many."""
        self.mistakes = {each: at for each, at in self.mistakes.items() if now - at < MISTAKE_LASTS}
        if mistake in self.mistakes or len(self.mistakes) > MISTAKES_KEPT:
            return False
        self.mistakes[mistake] = now
        return True

    @property
    def too_many(self) -> bool:
        """True if no further mistake is reported for now."""
        return len(self.mistakes) > MISTAKES_KEPT
