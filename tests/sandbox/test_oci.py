"""The registry client is patient with a registry that goes on, however slowly, but not with a silent one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from sandbox import oci
from sandbox.oci import LAYER_TYPE, OciClient, digest_of

BLOB = b"x" * 30_000_000
SLOW = 6_000_000
"""Bytes a second."""
PIECE = 100_000


@asynccontextmanager
async def slow_registry(silence: float = 0) -> AsyncIterator[str]:
    """Takes and gives ``SLOW`` bytes a second, and waits ``silence`` seconds after each upload."""

    async def begin(request: web.Request) -> web.Response:
        return web.Response(status=202, headers={"Location": "/v2/team/repo/blobs/uploads/1"})

    async def take(request: web.Request) -> web.Response:
        async for piece in request.content.iter_chunked(PIECE):
            await asyncio.sleep(len(piece) / SLOW)
        await asyncio.sleep(silence)
        return web.Response(status=201)

    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(BLOB), PIECE):
            await response.write(BLOB[start : start + PIECE])
            await asyncio.sleep(PIECE / SLOW)
        return response

    app = web.Application(client_max_size=len(BLOB) + 1)
    app.router.add_post("/v2/team/repo/blobs/uploads/", begin)
    app.router.add_put("/v2/team/repo/blobs/uploads/1", take)
    app.router.add_get("/v2/team/repo/blobs/{digest}", give)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after four seconds of silence, three more than sockets may cause; an upload has thirty seconds more."""
    monkeypatch.setattr(oci, "SILENCE_SECONDS", 4.0)


async def test_slow_push_and_pull_take_their_time() -> None:
    async with slow_registry() as host, OciClient(host, plain_http=True) as client:
        started = asyncio.get_running_loop().time()
        pushed = await client.push_blob("team/repo", BLOB, LAYER_TYPE)
        assert pushed["digest"] == digest_of(BLOB)
        assert await client.blob("team/repo", digest_of(BLOB)) == BLOB
        assert asyncio.get_running_loop().time() - started > 2 * oci.SILENCE_SECONDS


async def test_registry_that_falls_silent_is_given_up() -> None:
    async with slow_registry(silence=8) as host, OciClient(host, plain_http=True) as client:
        with pytest.raises(aiohttp.ServerTimeoutError):
            await client.push_blob("team/repo", BLOB, LAYER_TYPE)


async def test_upload_slower_than_any_use_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci, "SLOWEST_BYTES_PER_SECOND", 100_000_000)
    async with slow_registry() as host, OciClient(host, plain_http=True) as client:
        with pytest.raises(TimeoutError):
            await client.push_blob("team/repo", BLOB, LAYER_TYPE)
