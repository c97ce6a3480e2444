"""Answers that jobs share, on a clock of the test's own."""

import asyncio
from typing import Literal

import pytest
from temporalio.exceptions import ApplicationError

from activities.preflight import answers
from activities.preflight.answers import RETOLD, Answers, all_true
from api.common import Condition


class World:
    """Something to check, which counts the checks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.status: Literal["True", "False", "Unknown"] = "True"
        self.answers = Answers(600, all_true, lambda: self.now)

    async def look(self) -> list[Condition]:
        self.looks += 1
        await asyncio.sleep(0.01)
        return [Condition(type="CloudReady", status=self.status, reason="Seen")]

    async def ask(self, key: str = "p", *, known: bool = True) -> str:
        [condition] = await self.answers.ask(key, self.look, known=known)
        return condition.status


async def test_a_good_answer_is_given_again_until_it_is_old() -> None:
    world = World()
    for world.now, looks in ((0, 1), (599, 1), (600, 2)):
        await world.ask()
        assert world.looks == looks


@pytest.mark.parametrize("status", ["False", "Unknown"])
async def test_a_bad_answer_is_soon_asked_for_again(status: Literal["False", "Unknown"]) -> None:
    world = World()
    world.status = status
    for world.now, looks in ((0, 1), (RETOLD - 1, 1), (RETOLD, 2)):
        await world.ask()
        assert world.looks == looks


async def test_who_wants_a_fresh_answer_gets_one_and_the_others_have_it_too() -> None:
    world = World()
    await world.ask()
    world.status = "False"
    assert await world.ask(known=False) == "False"
    assert await world.ask() == "False"
    assert world.looks == 2


async def test_another_question_has_another_answer() -> None:
    world = World()
    await asyncio.gather(world.ask("p"), world.ask("q"))
    assert world.looks == 2


async def test_all_who_ask_at_once_share_one_look() -> None:
    world = World()
    assert set(await asyncio.gather(*(world.ask(known=False) for _ in range(100)))) == {"True"}
    assert world.looks == 1


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    world = World()
    first, second = asyncio.create_task(world.ask()), asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "True"
    assert world.looks == 1


async def test_a_look_that_fails_fails_for_all_and_is_not_remembered() -> None:
    world = World()

    async def fail() -> list[Condition]:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        await world.answers.ask("p", fail, known=True)
    assert await world.ask() == "True"


async def test_a_look_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LONGEST_LOOK", 0.05)
    world = World()

    async def hang() -> list[Condition]:
        await asyncio.sleep(60)
        return []

    with pytest.raises(ApplicationError, match="no answer within"):
        await world.answers.ask("p", hang, known=True)
    assert await world.ask() == "True"
