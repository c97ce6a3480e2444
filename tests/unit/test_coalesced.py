"""Work on one object that many request at once is done in few turns, and one caller's fate is not another's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from activities.kubernetes.coalesced import Coalesced
from clients.kube import KubeError


class Work:
    """Work that takes until it is let on; it records its input of each turn."""

    def __init__(self, refuse: Callable[[list[str]], Exception | None] = lambda items: None) -> None:
        self.turns: list[tuple[str, list[str]]] = []
        self.on = asyncio.Event()
        self._refuse = refuse

    async def __call__(self, where: str, items: list[str]) -> str:
        self.turns.append((where, items))
        await self.on.wait()
        if refusal := self._refuse(items):
            raise refusal
        return "+".join(items)


async def asked(coalesced: Coalesced[str, str], *items: str, where: str = "/a") -> list[asyncio.Task[str]]:
    """Ask for these at once, and return when the first turn has begun."""
    made = [asyncio.create_task(_as_coroutine(coalesced.ask(where, item))) for item in items]
    for _ in range(5):
        await asyncio.sleep(0)
    return made


async def _as_coroutine(asking: Awaitable[str]) -> str:
    return await asking


async def test_what_comes_while_a_turn_is_under_way_is_the_next_turn() -> None:
    work = Work()
    coalesced = Coalesced(work)
    first = await asked(coalesced, "1")
    later = await asked(coalesced, "2", "3", "4")
    work.on.set()
    assert await asyncio.gather(*first, *later) == ["1", "2+3+4", "2+3+4", "2+3+4"]
    assert work.turns == [("/a", ["1"]), ("/a", ["2", "3", "4"])]


async def test_objects_do_not_wait_for_each_other() -> None:
    work = Work()
    coalesced = Coalesced(work)
    await asked(coalesced, "1", where="/a")
    await asked(coalesced, "2", where="/b")
    assert work.turns == [("/a", ["1"]), ("/b", ["2"])]
    work.on.set()


async def test_who_is_cancelled_takes_nobody_along_and_is_left_out() -> None:
    work = Work()
    coalesced = Coalesced(work)
    (first,) = await asked(coalesced, "1")
    second, third = await asked(coalesced, "2", "3")
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    work.on.set()
    assert await third == "3"
    assert work.turns == [("/a", ["1"]), ("/a", ["3"])]


async def test_a_refusal_concerns_only_whom_it_is_for() -> None:
    work = Work(lambda items: KubeError(422, {"message": "too much"}) if "bad" in items else None)
    coalesced = Coalesced(work)
    calls = await asked(coalesced, "1", "2", "bad", "3")
    work.on.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["1+2", "1+2", "Kubernetes API: too much", "3"]


async def test_a_refused_item_is_found_by_halving() -> None:
    work = Work(lambda items: KubeError(422, {"message": "too much"}) if "bad" in items else None)
    coalesced = Coalesced(work)
    items = [str(number) for number in range(500)]
    items[300] = "bad"
    calls = await asked(coalesced, *items)
    work.on.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [at for at, answer in enumerate(answers) if isinstance(answer, Exception)] == [300]
    assert len(work.turns) <= 1 + 2 * 9


async def test_a_full_object_refuses_a_crowd_by_a_few_writes() -> None:
    """It has room for 7 more of 500."""
    there: set[str] = set()

    def refuse(items: list[str]) -> Exception | None:
        if len(there) + len(items) > 7:
            return KubeError(422, {"message": "Too long"})
        there.update(items)
        return None

    work = Work(refuse)
    coalesced = Coalesced(work)
    calls = await asked(coalesced, *map(str, range(500)))
    work.on.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert len(there) == 7
    assert sum(not isinstance(answer, Exception) for answer in answers) == 7
    assert {str(answer) for answer in answers if isinstance(answer, Exception)} == {"Kubernetes API: Too long"}
    assert len(work.turns) < 80


async def test_whoever_is_refused_among_a_few_was_tried_alone() -> None:
    """Even if everybody but the last is refused."""
    work = Work(lambda items: None if items == ["good"] else KubeError(413, {"message": "too large"}))
    coalesced = Coalesced(work)
    calls = await asked(coalesced, *map(str, range(19)), "good")
    work.on.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, Exception)] == ["good"]
    assert {tuple(items) for _, items in work.turns} >= {(str(number),) for number in range(19)}


@pytest.mark.parametrize("failure", [TimeoutError("silence"), KubeError(503, {"message": "away"})])
async def test_an_outage_is_not_asked_for_by_each_alone(failure: Exception) -> None:
    work = Work(lambda items: failure)
    coalesced = Coalesced(work)
    first = await asked(coalesced, "0")
    calls = await asked(coalesced, "1", "2", "3")
    work.on.set()
    assert await asyncio.gather(*first, *calls, return_exceptions=True) == [failure] * 4
    assert len(work.turns) == 2


async def test_nothing_is_kept_of_what_is_done() -> None:
    work = Work()
    work.on.set()
    coalesced = Coalesced(work)
    await asyncio.gather(*(coalesced.ask(f"/{number}", "1") for number in range(10)))
    await asyncio.sleep(0)
    assert coalesced._turns == {}
    assert coalesced._waiting == {}
