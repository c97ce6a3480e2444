"""The traps of a checkpoint operator: what real ones do when nobody expects it.

This is the one list of their names. Both operators of the sandbox play them (``CheckpointOperator`` beside light
machines, ``AgentPods`` on real ones), and the tests' virtual operator plays those that it can under the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandbox.checkpoint_operator.phases import BUILDING, MIDDLE_PHASES

STICK = "stick"
SILENT = "silent"
NO_IMAGE = "no-image"
UNPUSHED = "unpushed"
POISON = "poison"
CRI_O = "cri-o"
FAIL = "fail"
SLOW = "slow"
ABSENT = "absent"
PRESENT = "present"

ON_BACKUPS: Mapping[str, str] = {
    STICK: "stays in a phase for ever, as after a crash of the agent",
    SILENT: "never writes a status",
    NO_IMAGE: "says Completed, but neither makes nor records an image",
    UNPUSHED: "says Completed, but does not push the image that it records",
    POISON: "pushes an image whose layer the registry lacks, as after a push that was cancelled",
    CRI_O: "annotates the image for CRI-O alone, as the public operator does: containerd cannot restore it",
    FAIL: "says Failed in a phase",
    SLOW: "takes many times as long to build and push",
}
"""Traps that are played on single CheckpointBackups, with what the operator does then."""

ON_OPERATOR: Mapping[str, str] = {
    ABSENT: "is away, with all its agents, until it is present again",
    PRESENT: "comes back",
}
"""Traps that concern the operator as a whole."""

TRAPS: Mapping[str, str] = {**ON_BACKUPS, **ON_OPERATOR}
"""All traps by name. The table in ``docs/faults.md`` is tested against it."""


@dataclass(frozen=True)
class Trap:
    """One trap for one CheckpointBackup of ``namespace``, or of any namespace if that is None."""

    kind: str
    phase: str
    factor: float
    namespace: str | None = None


class Traps:
    """The traps that wait for the next CheckpointBackups, and those that were taken."""

    def __init__(self, waiting: Iterable[Trap] = (), taken: Mapping[str, Trap] | None = None) -> None:
        self.waiting = list(waiting)
        self.taken = dict(taken or {})
        """The traps taken so far, by the UIDs of their CheckpointBackups."""

    def add(self, kind: str, phase: str | None, count: int, factor: float, namespace: str | None = None) -> None:
        """Play a trap on the next ``count`` CheckpointBackups.

        Raises:
            ValueError: the kind or the phase is unknown, or a number is out of range.
        """
        if kind not in ON_BACKUPS:
            raise ValueError(f"unknown trap {kind!r}; known are {', '.join(TRAPS)}")
        if phase is not None and phase not in MIDDLE_PHASES:
            raise ValueError(f"unknown phase {phase!r}; known are {', '.join(MIDDLE_PHASES)}")
        if count < 1 or factor <= 0:
            raise ValueError(f"count must be at least 1 and factor above 0, not {count} and {factor}")
        self.waiting += [Trap(kind, phase or BUILDING, factor, namespace)] * count

    def take(self, uid: str, namespace: str) -> Trap | None:
        """Return the trap of the CheckpointBackup with this UID: the same one at every call, None if it has none."""
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
