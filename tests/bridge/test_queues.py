"""What waits for its next try when an outage ends."""

import asyncio
from collections.abc import Callable

import pytest

from crd_bridge import queues
from crd_bridge.queues import Queues
from tests.bridge.recorder import eventually


class Server:
    """One that is away, and what was done when it was there."""

    def __init__(self) -> None:
        self.away = True
        self.tried: list[str] = []
        self.done: list[str] = []

    def work(self, name: str) -> queues.Work:
        async def do() -> None:
            self.tried.append(name)
            if self.away:
                raise OSError("away")
            self.done.append(name)

        return do


async def until(condition: Callable[[], bool]) -> None:
    async def true() -> bool:
        return condition()

    await eventually(true, "the work")


@pytest.fixture(autouse=True)
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries, where nobody hurries."""
    monkeypatch.setattr(queues, "FIRST_RETRY", 3600)
    monkeypatch.setattr(queues, "LAST_RETRY", 3600)


async def after_an_outage(names: str) -> tuple[Server, Queues]:
    """Of each name a work was tried and waits; the server is back."""
    server, line = Server(), Queues()
    for name in names:
        line.put(name, server.work(name))
    await until(lambda: len(server.tried) == len(names))
    server.away = False
    return server, line


async def test_all_is_done_at_once_when_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "HURRIED", 10_000)
    server, line = await after_an_outage("abc")
    line.hurry()
    await until(lambda: sorted(server.done) == ["a", "b", "c"])
    await line.close()


async def test_they_do_not_come_all_in_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "HURRIED", 1 / 3600)  # one an hour
    server, line = await after_an_outage("ab")
    line.hurry()
    await until(lambda: server.done == ["a"])
    assert server.tried == ["a", "b", "a"]
    await line.close()


async def test_what_is_newer_takes_the_place_of_what_waits() -> None:
    server, line = await after_an_outage("a")
    line.put("a", server.work("new"))
    await until(lambda: server.done == ["new"])
    line.hurry()
    await asyncio.sleep(0)
    assert server.tried == ["a", "new"]
    await line.close()


async def test_what_is_dropped_is_not_tried_again() -> None:
    server, line = Server(), Queues()
    line.put("a", server.work("a"))
    await until(lambda: server.tried == ["a"])
    line.drop("a")
    await until(lambda: not line._tasks)
    assert server.tried == ["a"]
