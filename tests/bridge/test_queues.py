"""What waits for its next attempt when an outage ends."""

import asyncio
from collections.abc import Callable

import pytest

from crd_bridge import queues
from crd_bridge.queues import Queues, Room
from tests.bridge.recorder import eventually


class Server:
    """A server that is unreachable, and what was done once it answered."""

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
    """Return the hours between two attempts, if nothing hurries them."""
    monkeypatch.setattr(queues, "FIRST_RETRY", 3600)
    monkeypatch.setattr(queues, "LAST_RETRY", 3600)


async def after_an_outage(names: str) -> tuple[Server, Queues]:
    """Let one work for each name wait after a failed attempt, and the server come back."""
    server, line = Server(), Queues()
    for name in names:
        line.put(name, server.work(name))
    await until(lambda: len(server.tried) == len(names))
    server.away = False
    return server, line


async def test_all_is_done_at_once_when_the_server_is_back() -> None:
    server, line = await after_an_outage("abc")
    line.hurry()
    await until(lambda: sorted(server.done) == ["a", "b", "c"])
    await line.close()


class Slow:
    """A server that answers slowly, and how many requests it gets at once."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.begun: list[str] = []
        self.done: list[str] = []

    def work(self, name: str) -> queues.Work:
        async def do() -> None:
            self.begun.append(name)
            await self.answers.wait()
            self.done.append(name)

        return do


async def test_only_so_many_are_at_work_at_once() -> None:
    server, line = Slow(), Queues(room=Room(any=3, urgent=2))
    for number in range(1000):
        line.put(number, server.work(str(number)))
    await asyncio.sleep(0.01)
    assert server.begun == ["0", "1", "2"]
    server.answers.set()
    await until(lambda: len(server.done) == 1000)
    assert line.idle


async def test_what_is_urgent_waits_for_no_other() -> None:
    server, line = Slow(), Queues(room=Room(any=3, urgent=2))
    for number in range(1000):
        line.put(number, server.work(str(number)))
    line.put("notice", server.work("notice"), urgent=True)
    await asyncio.sleep(0.01)
    assert server.begun == ["0", "1", "2", "notice"]
    await line.close()


async def test_what_is_urgent_comes_first_when_there_is_room_again() -> None:
    server, line = Slow(), Queues(room=Room(any=1, urgent=0))
    for name in "abc":
        line.put(name, server.work(name))
    line.put("notice", server.work("notice"), urgent=True)
    server.answers.set()
    await until(lambda: server.done == ["a", "notice", "b", "c"])


async def test_of_what_has_not_been_done_the_first_version_is_owed() -> None:
    server, line = Server(), Queues()
    line.put("a", server.work("a"), owed=("nodes", 7))
    line.put("b", server.work("b"), owed=("nodes", 5))
    line.put("b", server.work("b"), owed=("nodes", 9))
    line.put("c", server.work("c"), owed=("pods", 8))
    assert line.owes() == {"nodes": 5, "pods": 8}
    await until(lambda: len(server.tried) == 3)
    assert line.owes() == {"nodes": 5, "pods": 8}
    server.away = False
    line.hurry()
    await until(lambda: len(server.done) == 3)
    assert line.owes() == {}


async def test_what_was_under_way_at_the_end_is_owed() -> None:
    server, line = Slow(), Queues()
    line.put("a", server.work("a"), owed=("nodes", 7))
    await until(lambda: server.begun == ["a"])
    await line.close()
    assert line.owes() == {"nodes": 7}


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
    await until(lambda: line.idle)
    assert server.tried == ["a"]


async def test_nothing_is_begun_without_permission_and_of_each_key_the_newest_is_done_with_it() -> None:
    server, permitted = Server(), asyncio.Event()
    server.away = False

    async def permission() -> None:
        await permitted.wait()

    line = Queues(permission=permission)
    for key, name in [("a", "a1"), ("b", "b1"), ("a", "a2")]:
        line.put(key, server.work(name))
    await asyncio.sleep(0.05)
    assert server.tried == []
    permitted.set()
    await until(lambda: sorted(server.done) == ["a2", "b1"])
    await line.close()
