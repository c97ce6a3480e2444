"""What a sweep found and did: the result of its workflow."""

from datetime import datetime
from typing import Literal

from api.model import Model

Kind = Literal["machines", "CheckpointBackups", "marks", "Leases", "finalizers", "images", "workflows"]
"""What a finder looks for: orphans of one kind, and stuck workflows."""


class Swept(Model):
    """One kind: how many there are, which of them are orphans, and how many of these were swept."""

    kind: Kind
    seen: int
    orphans: list[str] = []
    swept: int = 0
    failed: list[str] = []  # with the reason; the next sweep retries them


class Stuck(Model):
    """An open workflow whose task fails again and again, so that nobody acts for what it looks after."""

    workflow_id: str
    workflow_type: str
    problem: str  # in the service's words: category and cause
    namespace: str = ""  # that of the SpotInstanceJob that it is or serves; empty if none is known
    job_name: str = ""
    told_at: datetime | None = None  # when it was last reported to people


class SweepReport(Model):
    """A whole sweep. ``alarm`` says why nothing was swept, and how to proceed."""

    summary: str
    alarm: str | None = None
    dry_run: bool = False
    kinds: list[Swept] = []
    unreadable: list[str] = []  # projects and repositories that could not be read, with the reason
    not_looked_for: dict[Kind, str] = {}  # kinds whose finder failed, with the reason
    stuck: list[Stuck] = []
    blind: str | None = None  # why stuck workflows cannot be seen at all
