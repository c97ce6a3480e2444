"""The state of a job's checkpoints."""

from datetime import datetime
from typing import Literal

from api.views import CheckpointView
from workflows.common.stored import Mutable


class Source(Mutable):
    """The replica of which a checkpoint is made, as it was when the checkpoint was requested."""

    replica: int
    incarnation: int
    node: str | None
    lineage_seconds: float
    reading: float | None = None  # the progress that the training had last reported
    by_seconds: bool = False  # its reported progress is not comparable, because the pattern in the log was changed
    fingerprint: dict[str, str] = {}  # of its machine


class Checkpoint(Source):
    """One CheckpointBackup, from its request to its end."""

    number: int
    reason: str
    requested_at: datetime
    ends_at: datetime | None = None  # when its machine is gone, if a notice says so
    created: bool = False
    phase_at: datetime | None = None  # when its phase last changed
    view: CheckpointView | None = None
    version: int = 0
    outcome: Literal["Usable", "Failed"] | None = None
    message: str = ""

    @property
    def urgent(self) -> bool:
        """True if somebody or something waits for it: all but those that are made from time to time."""
        return self.reason != "Scheduled"


class Discard(Mutable):
    """Images that retention has dropped, until they are deleted from the registry."""

    images: list[str]
    not_before: datetime  # an image may still arrive for a while after its checkpoint was given up


class Death(Mutable):
    """A training that ended by itself: what it had started from, and how far it was."""

    start: str  # the label of the restore point; empty after a cold start
    position: float
    reported: bool = False  # the position is reported progress, not training time
