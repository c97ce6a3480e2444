"""What stands between workers and world: each activity call may fail before its effect, after it, or act twice."""

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal

from activities import signatures as act
from tests.chaos.ledger import Ledger
from tests.workflows.world import World

Mode = Literal["before", "after", "twice"]
MODES: tuple[Mode, ...] = ("before", "after", "twice")
Point = tuple[str, int]
"""An activity and the number of its call."""

Fate = Callable[[str, int], Mode | None]
"""What is done to a call."""


class Calls:
    """All calls of one story: counted, written into the ledger, and made to fail if their fate says so."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        """Put itself before the world's fakes. It has to be made before the workers begin."""
        self.made: list[Point] = []
        self.at: list[datetime] = []  # when each call was made
        self.fate: Fate = lambda name, nth: None
        self._count: Counter[str] = Counter()
        self._inside = False
        self._ledger = ledger
        for signature in act.ALL:
            part = world.part(signature)
            setattr(part, signature.name, self._between(signature.name, getattr(part, signature.name)))

    def _between(self, name: str, fake: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def carried_out(request: Any) -> Any:
            if self._inside:  # one fake calls another
                return fake(request)
            self._count[name] += 1
            point = name, self._count[name]
            self.made.append(point)
            self.at.append(self._ledger.clock.now)
            self._ledger.asked(request)
            fate = self.fate(*point)
            if inspect.iscoroutinefunction(fake):
                return self._answered(name, fate, lambda: fake(request))
            return self._answer(name, fate, lambda: fake(request))

        return carried_out

    def _answer(self, name: str, fate: Mode | None, act_once: Callable[[], Any]) -> Any:
        self._inside = True
        try:
            _refuse(name, fate)
            if fate == "twice":
                act_once()
            return _or_lost(name, fate, act_once())
        finally:
            self._inside = False

    async def _answered(self, name: str, fate: Mode | None, act_once: Callable[[], Awaitable[Any]]) -> Any:
        _refuse(name, fate)
        if fate == "twice":
            await act_once()
        return _or_lost(name, fate, await act_once())


def _refuse(name: str, fate: Mode | None) -> None:
    if fate == "before":
        raise RuntimeError(f"{name} was not carried out")


def _or_lost(name: str, fate: Mode | None, result: Any) -> Any:
    if fate == "after":
        raise RuntimeError(f"the answer of {name} was lost")
    return result
