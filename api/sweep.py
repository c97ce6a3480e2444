"""What a sweep found and did: the result of its workflow."""

from typing import Literal

from api.model import Model

Kind = Literal["machines", "CheckpointBackups", "marks", "Leases", "finalizers", "images"]


class Swept(Model):
    """What is of one kind: how many there are, which of them nobody owns, and which of these were swept."""

    kind: Kind
    seen: int
    orphans: list[str] = []
    swept: int = 0
    failed: list[str] = []  # with the reason; the next sweep tries again


class SweepReport(Model):
    """A whole sweep. ``alarm`` says why nothing was swept, and how to go on."""

    summary: str
    alarm: str | None = None
    dry_run: bool = False
    kinds: list[Swept] = []
    unreadable: list[str] = []  # projects and repositories that could not be looked into, with the reason
    not_looked_for: dict[Kind, str] = {}  # kinds whose finder failed, with the reason
