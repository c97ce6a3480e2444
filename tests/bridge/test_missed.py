"""What was deleted before a bridge began is read from the events of a watch, however slowly they come."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from clients.watch import Resource
from crd_bridge import missed

SILENCE = 0.2
EVENTS = 20


class Server:
    """Sends the deletions since version 0 one by one, and then nothing more."""

    async def follow(self, where: str, version: str, *, silence: float, **_: Any) -> AsyncGenerator[Any, None]:
        for number in range(EVENTS):
            await asyncio.sleep(SILENCE / 5)
            metadata = {"name": f"pod-{number}", "resourceVersion": str(number + 1)}
            yield {"type": "DELETED", "object": {"metadata": metadata}}
        await asyncio.sleep(silence)
        raise TimeoutError


async def test_all_are_found_even_if_they_come_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed, "SILENCE", SILENCE)
    watch: Any = SimpleNamespace(position=1000, resource=Resource("v1", "pods"))
    server: Any = Server()
    assert len(await missed.deletions(server, watch, 1)) == EVENTS
