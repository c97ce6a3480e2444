"""What is to be played on the next so many VMs, of one zone or of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Turn(Generic[T]):
    what: T
    times: int
    zone: str | None


class Turns(Generic[T]):
    """First come, first served; each VM takes one."""

    def __init__(self) -> None:
        self._waiting: list[_Turn[T]] = []

    def add(self, what: T, times: int, zone: str | None) -> None:
        """Play it on the next `times` VMs of `zone` (None: of any)."""
        self._waiting.append(_Turn(what, times, zone))

    def take(self, zone: str) -> T | None:
        """What a VM of this zone has to play, None where nothing waits for it."""
        self._waiting = [turn for turn in self._waiting if turn.times > 0]
        for turn in self._waiting:
            if turn.zone in {None, zone}:
                turn.times -= 1
                return turn.what
        return None
