"""Real servers for tests, which run as long as they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar


class Server(Protocol):
    """One of the sandbox's servers."""

    async def up(self) -> None: ...

    async def down(self) -> None: ...


Kind = TypeVar("Kind", bound=Server)


@contextlib.asynccontextmanager
async def up(server: Kind) -> AsyncIterator[Kind]:
    """Start servers, and stop them again, also if not all of them start."""
    try:
        await server.up()
        yield server
    finally:
        await server.down()
