"""One call for many: those who ask while a call is under way share the next one.

>>> async def read(path: str, calls: list[Call[None, Json | None]]) -> None:
...     found = await kube.find(path)
...     for call in calls:
...         call.succeed(found)
>>> shared = Turns(read)
>>> await shared.ask("/api/v1/namespaces/default/secrets/registry", None)
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Call(Generic[Item, Answer]):
    """What one caller asks. The caller may be cancelled before there is an answer."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def succeed(self, answer: Answer) -> None:
        """Answer the caller, unless that was done before or nobody waits any longer."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Raise an error in the caller, under the same conditions."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Turns(Generic[Key, Item, Answer]):
    """Collects the calls of this process by key, and answers those of one key turn after turn.

    A turn takes the calls that wait when it begins, so it begins after each of its callers has called. Whoever asks
    alone is not delayed, because a turn begins at once if none is under way for its key. Different keys do not wait for
    each other.

    Args:
        take: takes one turn: for a key, it answers each of some calls, all alike or each by itself. An error that it
            raises goes to all calls that have no answer yet.
        fits: says how many of the waiting items, the oldest first, one turn takes: at least one. By default all.
    """

    def __init__(
        self,
        take: Callable[[Key, list[Call[Item, Answer]]], Awaitable[None]],
        fits: Callable[[list[Item]], int] = len,
    ) -> None:
        self._take, self._fits = take, fits
        self._waiting: dict[Key, list[Call[Item, Answer]]] = {}
        self._turns: dict[Key, asyncio.Task[None]] = {}

    async def ask(self, key: Key, item: Item) -> Answer:
        """Ask for this together with what others ask for the same key, and return the answer to it."""
        call = Call[Item, Answer](item)
        self._waiting.setdefault(key, []).append(call)
        if key not in self._turns:
            self._turns[key] = asyncio.create_task(self._take_turns(key), name=f"turns of {key}")
        return await call.answer

    async def _take_turns(self, key: Key) -> None:
        try:
            while calls := self._next(key):
                await self._take_turn(key, calls)
        finally:
            del self._turns[key]

    def _next(self, key: Key) -> list[Call[Item, Answer]]:
        """Remove the calls of the next turn from those that wait; nobody waits for a cancelled one."""
        waiting = [call for call in self._waiting.pop(key, []) if not call.answer.done()]
        count = self._fits([call.item for call in waiting])
        if later := waiting[count:]:
            self._waiting[key] = later
        return waiting[:count]

    async def _take_turn(self, key: Key, calls: list[Call[Item, Answer]]) -> None:
        try:
            await self._take(key, calls)
        except Exception as error:
            for call in calls:
                call.fail(error)
