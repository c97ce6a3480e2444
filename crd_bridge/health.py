"""``/healthz``: 200 while every watch hears from the API server, else 503 with the names of those that do not."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def served(address: str, stale: Callable[[], list[str]]) -> AsyncIterator[None]:
    """Serve it at ``address`` (host:port; nothing where it is empty) while the block runs.

    Raises:
        OSError: the address cannot be listened on.
    """
    if not address:
        yield
        return

    async def answer(request: web.Request) -> web.Response:
        silent = stale()
        if silent:
            return web.Response(status=503, text=f"nothing heard of: {', '.join(silent)}\n")
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        yield
    finally:
        await runner.cleanup()
