"""Traps that the operator plays on request: what real ones do when nobody expects it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CHECKPOINTING = "Checkpointing"
CHECKPOINTED = "Checkpointed"
STORING = "StoringCheckpoint"
STORED = "CheckpointStored"
BUILDING = "ImageBuilding"
BUILT = "ImageBuilt"
PUSHING = "ImagePushing"
PUSHED = "ImagePushed"
COMPLETED = "Completed"
COMPLETED_POD_DELETED = "CompletedPodDeleted"
COMPLETED_WITH_ERROR = "CompletedWithError"
FAILED = "Failed"
MIDDLE_PHASES = (CHECKPOINTING, CHECKPOINTED, STORING, STORED, BUILDING, BUILT, PUSHING, PUSHED)

KINDS = {
    "stick": "stays in `phase` for ever, as after a crash of the agent",
    "silent": "takes no notice: no status at all",
    "no-image": "Completed, but no image was made or recorded",
    "unpushed": "Completed, but the image recorded was not pushed",
    "poison": "Completed, and the image is there, but the registry lacks its layer, as after a push cancelled before",
    "cri-o": "the image has CRI-O's annotations alone, as the public operator makes it: containerd restores none",
    "fail": "Failed in `phase`",
    "slow": "takes `factor` times as long to build and push",
}


@dataclass(frozen=True)
class Trap:
    """One trap, for one CheckpointBackup; of one namespace, or of any."""

    kind: str
    phase: str
    factor: float
    namespace: str | None = None


class Traps:
    """The traps that wait for the next CheckpointBackups, and those that were taken."""

    def __init__(self, waiting: Iterable[Trap] = (), taken: Mapping[str, Trap] | None = None) -> None:
        self.waiting = list(waiting)
        self.taken = dict(taken or {})
        """By the UIDs of their CheckpointBackups."""

    def add(self, kind: str, phase: str | None, count: int, factor: float, namespace: str | None = None) -> None:
        """Play a trap on the next `count` CheckpointBackups. Raises ValueError for an unknown kind or phase."""
        if kind not in KINDS:
            raise ValueError(f"unknown trap {kind!r}; known are {', '.join(KINDS)}, absent, present")
        if phase is not None and phase not in MIDDLE_PHASES:
            raise ValueError(f"unknown phase {phase!r}; known are {', '.join(MIDDLE_PHASES)}")
        if count < 1 or factor <= 0:
            raise ValueError(f"count must be at least 1 and factor above 0, not {count} and {factor}")
        self.waiting += [Trap(kind, phase or BUILDING, factor, namespace)] * count

    def take(self, uid: str, namespace: str) -> Trap | None:
        """The trap of the CheckpointBackup with this UID: the same one whenever it is asked for."""
        if uid in self.taken:
            return self.taken[uid]
        trap = next((trap for trap in self.waiting if trap.namespace in {None, namespace}), None)
        if trap is not None:
            self.waiting.remove(trap)
            self.taken[uid] = trap
        return trap

    def clear(self) -> None:
        """Forget the traps that wait."""
        self.waiting.clear()
