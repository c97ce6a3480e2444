"""What is to be played on the next so many VMs, of one zone or project or of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Turn(Generic[T]):
    what: T
    times: int
    where: str | None


class Turns(Generic[T]):
    """First come, first served; each VM takes one."""

    def __init__(self) -> None:
        self._waiting: list[_Turn[T]] = []

    def add(self, what: T, times: int, where: str | None) -> None:
        """Play it on the next `times` VMs there (None: anywhere)."""
        self._waiting.append(_Turn(what, times, where))

    def take(self, where: str) -> T | None:
        """What a VM there has to play, None where nothing waits for it."""
        self._waiting = [turn for turn in self._waiting if turn.times > 0]
        for turn in self._waiting:
            if turn.where in {None, where}:
                turn.times -= 1
                return turn.what
        return None
