"""Probes of a process: ``/healthz`` says whether to restart it, ``/readyz`` whether it can do its work.

They differ in an outage. A process that cannot reach Temporal or the API server is not ready and says what it lacks. A
restart would not help, and would cost time afterwards. So what other programs do never makes it unhealthy.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

Told = Callable[[], list[str]]


def _starting() -> list[str]:
    return ["Temporal and the API server have not both been reached yet"]


@dataclass
class Health:
    """The health of one process, read at each probe. All is well if ``stuck`` and ``missing`` are empty."""

    stuck: Told = list
    """Names what has stopped by our own fault."""
    missing: Told = _starting
    """Names what the work needs and cannot get now."""
    notes: Told = list
    """What people should know although the work can be done; readiness shows it and stays."""


@asynccontextmanager
async def served(address: str, health: Health) -> AsyncIterator[None]:
    """Serve both at ``address`` while the block runs (host:port; nothing if it is empty).

    Raises:
        OSError: the address cannot be listened on.
    """
    if not address:
        yield
        return
    app = web.Application()
    app.router.add_get("/healthz", lambda request: _answer(health.stuck()))
    app.router.add_get("/readyz", lambda request: _answer(health.missing(), health.notes()))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        yield
    finally:
        await runner.cleanup()


async def _answer(wrong: list[str], notes: Sequence[str] = ()) -> web.Response:
    if wrong:
        return web.Response(status=503, text=_lines(*wrong, *notes))
    return web.Response(text=_lines("ok", *notes))


def _lines(*texts: str) -> str:
    return "".join(f"{each}\n" for each in texts)
