"""A server inside the cluster that nobody may ask: it notes who did, and its answers must appear nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

SECRET = "db_password=hunter2"


@dataclass
class Internal:
    """Answers everything with ``status`` and :data:`SECRET`, and redirects those who ask for what ``leads`` names."""

    status: int = 200
    address: str = ""
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    leads: str | None = None
    challenge: str | None = None
    location: str | None = None

    @property
    def url(self) -> str:
        """Return its root."""
        return f"http://{self.address}"

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any method and any path."""
        self.asked.append(request.path)
        if shown := request.headers.get("Authorization"):
            self.logins.append(shown)
        if self.leads is not None:
            return web.Response(status=307, headers={"Location": self.leads})
        if self.challenge is not None and "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": self.challenge})
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=self.status, text=SECRET, headers=headers)


@asynccontextmanager
async def internal_server(host: str = "127.0.0.2", **how: object) -> AsyncIterator[Internal]:
    """Run one on a free port of a loopback address that the tests do not allow."""
    server = Internal(**how)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    server.address = f"{host}:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
