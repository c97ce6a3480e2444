"""Gangs: trainings of several pods of one Indexed Job, which step together as data-parallel processes do.

A pod belongs to one if its Job numbers it (``batch.kubernetes.io/job-completion-index``), and if it is told that it is
one of several: by the file ``size`` in ``/etc/outlast``, or by the variable ``WORLD_SIZE``. All light machines are
coroutines of one process, so a gang is an object that its members share, and no packet is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
FAIL_SECONDS = 2.0
"""Emulated seconds from the end of a member until its peers fail, as ``env://`` of torch does (1.8 s measured)."""

PeerLoss = Literal["fail", "hang"]
Stop = Literal["any", "all"]


class PeerLost(Exception):
    """A collective failed, because a member has ended."""


class Gang:
    """One start of a training on ``size`` machines. What hangs here hangs until its process is killed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.broken = False
        """True once a member has ended: what is left of it never trains again."""
        self.whole = asyncio.Event()
        self._wakers: dict[int, Callable[[], None]] = {}
        self._votes: dict[int, bool] = {}
        self._round: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()

    def join(self, rank: int, wake: Callable[[], None]) -> None:
        """Add a member; ``wake`` interrupts its present step."""
        self._wakers[rank] = wake
        if len(self._wakers) == self.size:
            self.whole.set()

    def wake(self) -> None:
        """Interrupt the present step of all members."""
        for wake in self._wakers.values():
            wake()

    async def gather(self, rank: int, vote: bool) -> list[bool]:
        """Wait until all members have come here, and return what they brought.

        Raises:
            PeerLost: one of them has ended, and nobody waits for it any longer.
        """
        here = self._round
        self._votes[rank] = vote
        if len(self._votes) == self.size and not self.broken:
            votes, self._votes = list(self._votes.values()), {}
            self._round = asyncio.get_running_loop().create_future()
            here.set_result(votes)
        return await asyncio.shield(here)

    def leave(self, *, fail_after: float | None) -> None:
        """Note that a member has ended. Its peers fail after so many real seconds; with None they hang."""
        self.broken = True
        if fail_after is not None:
            asyncio.get_running_loop().call_later(fail_after, self._fail)

    def _fail(self) -> None:
        if not self._round.done():
            self._round.set_exception(PeerLost("Connection closed by peer"))
            self._round.exception()  # perhaps nobody waits any more, and asyncio would complain


_gangs: WeakValueDictionary[tuple[str, str], Gang] = WeakValueDictionary()


@dataclass(frozen=True)
class Seat:
    """The place of one container in a gang that may not have met yet."""

    job: str
    container: str
    rank: int
    size: int

    @classmethod
    def of(cls, pod: Mapping[str, Any], container: str, env: Mapping[str, str], identity: Path | None) -> Seat | None:
        """Find the place of a container of this pod; None if it trains alone."""
        metadata = pod["metadata"]
        index = metadata.get("labels", {}).get(INDEX_LABEL)
        size = _number(_read(identity, "size") or env.get("WORLD_SIZE", ""))
        owners = [each["uid"] for each in metadata.get("ownerReferences", ()) if each.get("controller")]
        if index is None or size < 2 or not owners:
            return None
        return cls(owners[0], container, int(index), size)

    def meet(self) -> Gang:
        """Return the gang that the others of this start share."""
        gang = _gangs.get((self.job, self.container))
        if gang is None or gang.broken or gang.size != self.size:
            gang = _gangs[self.job, self.container] = Gang(self.size)
        return gang


def _read(directory: Path | None, name: str) -> str:
    file = directory / name if directory else None
    return file.read_text().strip() if file and file.is_file() else ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
