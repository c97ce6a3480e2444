"""Work that many do on one object at the same time, done once for all of them.

Hundreds of jobs may name one Secret, and each puts its finalizer on it. One after the other they would write it
hundreds of times, and refuse each other's writes by its resourceVersion all the while.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from clients.kube import KubeError
from clients.turns import Call, Turns

Item = TypeVar("Item")
Result = TypeVar("Result")

REFUSED = (413, 422)
"""Statuses of a write that concern what is written: the object would be too large, or is not valid."""
HALVINGS = 4
"""Halvings for each doubling of a turn: enough for each of 20 items to be tried alone, or to find a few of hundreds."""


class Coalesced(Turns[str, Item, Result]):
    """Work on objects, taken together by object within this process; the key of a turn is the object's path.

    If the API server refuses a turn, it is tried again in halves, so that nobody fails because of another. A full
    object refuses everybody, so the number of halvings is limited. Whoever is then still in a refused group gets that
    refusal, and may ask again.

    Args:
        work: does the work of one turn, given the object's path and what is asked for it. What it returns is the answer
            to each caller.
    """

    def __init__(self, work: Callable[[str, list[Item]], Awaitable[Result]]) -> None:
        super().__init__(self._take_in_groups)
        self._work = work

    async def _take_in_groups(self, where: str, calls: list[Call[Item, Result]]) -> None:
        groups, halvings = [calls], HALVINGS * len(calls).bit_length()
        while groups:
            group = groups.pop()
            try:
                result = await self._work(where, [call.item for call in group])
            except Exception as error:
                if halvings and len(group) > 1 and isinstance(error, KubeError) and error.status in REFUSED:
                    halvings -= 1
                    middle = len(group) // 2
                    groups += [group[middle:], group[:middle]]
                    continue
                for call in group:
                    call.fail(error)
            else:
                for call in group:
                    call.succeed(result)
