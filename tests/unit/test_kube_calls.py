"""What a call of the API server costs besides the call."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from clients.kube import Kube, connect


async def answer(_: web.Request) -> web.Response:
    return web.json_response({"kind": "Namespace"})


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    """An API server without TLS."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as running:
        yield running


async def connected(server: TestServer, directory: Path) -> Kube:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": str(server.make_url(""))}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(config))
    return await connect(str(directory / "kubeconfig"))


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts whose passwords were looked for in ``~/.netrc``."""
    hosts: list[str] = []
    monkeypatch.setattr(ClientSession, "_get_netrc_auth", lambda _, host: hosts.append(host))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return hosts


async def test_no_call_looks_for_a_password(server: TestServer, tmp_path: Path, looked_up: list[str]) -> None:
    async with await connected(server, tmp_path) as kube:
        assert await kube.get("/api/v1/namespaces/default") == {"kind": "Namespace"}
    assert looked_up == []


async def test_a_proxy_of_the_environment_is_used(
    server: TestServer, tmp_path: Path, looked_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", str(server.make_url("")))
    async with await connected(server, tmp_path) as kube:
        kube._client.configuration.host = "http://api.example.com"
        assert await kube.get("/api/v1/namespaces/default") == {"kind": "Namespace"}
    assert looked_up == ["api.example.com"]
