"""Those who ask while a turn is under way share the next one."""

import asyncio
from collections.abc import Callable

from clients.turns import Call, Turns


class Echo:
    """Answers each item with itself, once it is let on, and records the items of each turn."""

    def __init__(self, fits: Callable[[list[int]], int] = len) -> None:
        self.turns: list[tuple[str, list[int]]] = []
        self.on = asyncio.Event()
        self.asks = Turns(self._take, fits)

    async def _take(self, key: str, calls: list[Call[int, int]]) -> None:
        self.turns.append((key, [call.item for call in calls]))
        await self.on.wait()
        for call in calls:
            if call.item < 0:
                raise ValueError(f"{call.item} is negative")
            call.succeed(call.item)


async def asked(echo: Echo, *items: int, key: str = "a") -> list[asyncio.Task[int]]:
    """Ask for these at once, and return when no more turns can begin."""
    made = [asyncio.create_task(echo.asks.ask(key, item)) for item in items]
    for _ in range(5):
        await asyncio.sleep(0)
    return made


async def test_a_turn_begins_at_once_and_the_next_takes_all_that_came_meanwhile() -> None:
    echo = Echo()
    first, later = await asked(echo, 1), await asked(echo, 2, 3)
    assert echo.turns == [("a", [1])]
    echo.on.set()
    assert await asyncio.gather(*first, *later) == [1, 2, 3]
    assert echo.turns == [("a", [1]), ("a", [2, 3])]


async def test_keys_do_not_wait_for_each_other() -> None:
    echo = Echo()
    await asked(echo, 1)
    await asked(echo, 2, key="b")
    assert echo.turns == [("a", [1]), ("b", [2])]


async def test_what_does_not_fit_waits_for_the_turn_after() -> None:
    echo = Echo(fits=lambda items: min(2, len(items)))
    calls = await asked(echo, 1, 2, 3, 4, 5)
    echo.on.set()
    assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5]
    assert echo.turns == [("a", [1, 2]), ("a", [3, 4]), ("a", [5])]


async def test_an_error_goes_to_those_without_an_answer_and_not_to_the_next_turn() -> None:
    echo = Echo()
    first, later = await asked(echo, 1, -2, 3), await asked(echo, 4)
    echo.on.set()
    told = await asyncio.gather(*first, *later, return_exceptions=True)
    assert [str(each) for each in told] == ["1", "-2 is negative", "-2 is negative", "4"]


async def test_a_cancelled_call_is_left_out_and_disturbs_nobody() -> None:
    echo = Echo()
    (first,), (second, third) = await asked(echo, 1), await asked(echo, 2, 3)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    echo.on.set()
    assert await third == 3
    assert echo.turns == [("a", [1]), ("a", [3])]


async def test_if_all_who_waited_are_gone_there_is_no_turn() -> None:
    echo = Echo()
    first, (second,) = await asked(echo, 1), await asked(echo, 2)
    second.cancel()
    await asyncio.sleep(0)
    echo.on.set()
    assert await asyncio.gather(*first) == [1]
    await asyncio.sleep(0)
    assert echo.turns == [("a", [1])]
    (third,) = await asked(echo, 3)
    assert await third == 3
