"""What a process says of itself: ``/healthz``, whether to start it again, and ``/readyz``, whether it can do its work.

They differ in an outage. A process that cannot reach Temporal or the API server is not ready and says what it misses;
starting it again would mend nothing, and afterwards it would be late. So what others do never makes it unhealthy.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

Told = Callable[[], list[str]]


def _starting() -> list[str]:
    return ["Temporal and the API server were not both reached yet"]


@dataclass
class Health:
    """Of one process. Both are asked at each probe, and all is well where they name nothing."""

    stuck: Told = list
    """What stands still by our own fault."""
    missing: Told = _starting
    """What is needed for the work and is not there now."""


@asynccontextmanager
async def served(address: str, health: Health) -> AsyncIterator[None]:
    """Serve both at ``address`` (host:port; nothing where it is empty) while the block runs.

    Raises:
        OSError: the address cannot be listened on.
    """
    if not address:
        yield
        return
    app = web.Application()
    app.router.add_get("/healthz", lambda request: _answer(health.stuck()))
    app.router.add_get("/readyz", lambda request: _answer(health.missing()))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        yield
    finally:
        await runner.cleanup()


async def _answer(wrong: list[str]) -> web.Response:
    if wrong:
        return web.Response(status=503, text="".join(f"{each}\n" for each in wrong))
    return web.Response(text="ok\n")
