"""What happened to VMs, in order: for summaries, and for tests that ask in which order things happened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from enum import StrEnum


class Happening(StrEnum):
    """What can happen to a VM."""

    REQUESTED = "requested"
    """An insert was accepted."""
    RUNNING = "running"
    FAILED = "failed"
    """The insert's operation failed; there is no VM."""
    NOTICE = "notice"
    """Its metadata says that it will be preempted."""
    SOFT_OFF = "soft-off"
    """The operating system was told to shut down."""
    PREEMPTED = "preempted"
    """The cloud preempted it, and its power is off."""
    STOPPED = "stopped"
    DELETE_REQUESTED = "delete-requested"
    DELETED = "deleted"
    """It is gone: ``get`` answers 404 and nothing is billed any more."""


@dataclass(frozen=True)
class Event:
    """One line of the ledger; ``time`` is Unix time in seconds."""

    time: float
    what: Happening
    name: str
    zone: str
    instance_id: int
    machine_type: str


class Ledger:
    """Events in the order in which they happened."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._grown = asyncio.Event()

    async def since(self, count: int, seconds: float = 0) -> list[Event]:
        """Return the events after the first ``count``. If there are none yet, waits so many (real) seconds for one."""
        if len(self.events) <= count and seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._grown.wait()
        return self.events[count:]

    def write(self, what: Happening, name: str, zone: str, instance_id: int, machine_type: str) -> None:
        """Add an event that happens now."""
        self.events.append(Event(time.time(), what, name, zone, instance_id, machine_type))
        self._grown.set()
        self._grown = asyncio.Event()

    def count(self, what: Happening) -> int:
        """Return how often ``what`` has happened."""
        return sum(event.what is what for event in self.events)
