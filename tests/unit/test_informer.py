"""The memory of one kind: what a process wrote itself, what comes late, and a watch that is not allowed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clients.informer import Informer, Kind
from clients.kube import KubeError
from clients.watch import Resource

Json = dict[str, Any]
COLOURS = Kind("colours", Resource("v1", "things"), lambda found: found["colour"], lambda colour: colour)


def thing(name: str, colour: str, version: int) -> Json:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "colour": colour}


class Server:
    """An API server: what exists, its version, and the events that it has yet to send."""

    def __init__(self, *things: Json, version: int = 10) -> None:
        self.things, self.version, self.lists = list(things), version, 0
        self.events: asyncio.Queue[Json] = asyncio.Queue()
        self.forbids_watches = False

    async def pages(self, path: str, **query: Any) -> AsyncGenerator[tuple[list[Json], str], None]:
        self.lists += 1
        await asyncio.sleep(0.01)
        yield list(self.things), str(self.version)

    async def each(self, path: str, **query: Any) -> AsyncGenerator[Json, None]:
        async for items, _ in self.pages(path):
            for item in items:
                yield item

    async def follow(self, path: str, version: str, *, opened: Any, **query: Any) -> AsyncGenerator[Json, None]:
        if self.forbids_watches:
            raise KubeError(403, {"message": "things is forbidden"})
        opened()
        while True:
            yield await self.events.get()
            self.events.task_done()

    async def send(self, kind: str, item: Json) -> None:
        """Send an event, and wait until it was received."""
        await self.events.put({"type": kind, "object": item})
        await self.events.join()


@asynccontextmanager
async def kept(server: Any) -> AsyncGenerator[Informer[str], None]:
    informer = Informer(server, COLOURS)
    task = asyncio.create_task(informer.run())
    await informer.read(60)
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_follows_what_happens() -> None:
    server = Server(thing("a", "red", 5))
    async with kept(server) as informer:
        await server.send("ADDED", thing("b", "red", 11))
        assert informer.known.of("red") == {"a": "red", "b": "red"}
        assert informer.known.summed("red", lambda members: len(list(members))) == 2
        await server.send("MODIFIED", thing("a", "blue", 12))
        assert informer.known.summed("red", lambda members: len(list(members))) == 1
        await server.send("DELETED", thing("b", "red", 13))
        assert informer.known.items == {"a": "blue"}
        assert informer.known.of("red") == {}


async def test_what_this_process_wrote_is_known_at_once() -> None:
    server = Server(thing("a", "red", 5))
    async with kept(server) as informer:
        informer.learn(thing("a", "green", 14))
        assert informer.known.items == {"a": "green"}
        await server.send("MODIFIED", thing("a", "blue", 12))
        assert informer.known.items == {"a": "green"}, "what was before our write comes late"
        await server.send("MODIFIED", thing("a", "green", 14))
        await server.send("MODIFIED", thing("a", "white", 15))
        assert informer.known.items == {"a": "white"}


async def test_what_the_watch_has_told_already_is_not_learned_again() -> None:
    server = Server(thing("a", "red", 5))
    async with kept(server) as informer:
        await server.send("MODIFIED", thing("a", "white", 15))
        informer.learn(thing("a", "green", 14))
        assert informer.known.items == {"a": "white"}


async def test_what_was_written_and_deleted_in_between_is_forgotten() -> None:
    server = Server()
    async with kept(server) as informer:
        informer.learn(thing("a", "green", 14))
        await server.send("BOOKMARK", thing("", "", 20))
        assert informer.known.items == {}


@pytest.mark.parametrize("forbidden", ["watch", "not kept"])
async def test_readers_without_a_memory_share_lists(forbidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.watch.FIRST_RETRY", 60)  # the watch's own lists are not those of its readers
    monkeypatch.setattr("clients.watch.LAST_RETRY", 60)
    server: Any = Server(thing("a", "red", 5))
    server.forbids_watches = True
    informer = Informer(server, COLOURS)
    task = asyncio.create_task(informer.run() if forbidden == "watch" else asyncio.sleep(0))
    await asyncio.sleep(0.05)
    before = server.lists
    stores = await asyncio.gather(*(informer.read(0.05) for _ in range(100)))
    assert [store.items for store in stores] == [{"a": "red"}] * 100
    assert not informer.current
    assert server.lists - before <= 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_refused_list_is_everybodys_error_and_the_next_reader_tries_again() -> None:
    server: Any = Server()
    pages = server.pages

    async def refused(path: str, **query: Any) -> AsyncGenerator[tuple[list[Json], str], None]:
        await asyncio.sleep(0.01)
        raise KubeError(403, {"message": "things is forbidden"})
        yield [], ""

    server.pages = refused
    informer = Informer(server, COLOURS)
    told = await asyncio.gather(*(informer.read() for _ in range(10)), return_exceptions=True)
    assert {str(each) for each in told} == {"Kubernetes API: things is forbidden"}
    server.pages = pages
    assert (await informer.read()).items == {}
