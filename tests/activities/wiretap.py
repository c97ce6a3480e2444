"""What is really sent: servers that write down each request as it arrives, byte for byte of its path."""

import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

Json = dict[str, Any]
Answer = Callable[["Request"], web.Response]


class Request(NamedTuple):
    """One request; ``target`` is its path and query as they came, ``body`` its JSON, or None if it had none."""

    method: str
    target: str
    body: Any

    @property
    def path(self) -> str:
        """Return the path without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """Return the query's names and values, decoded."""
        return list(URL(self.target, encoded=True).query.items())

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


class Wiretap:
    """A server on loopback that writes down each request, and answers by ``answer``."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[Request] = []
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Wiretap"]:
        """Serve while the block runs."""
        runner = web.ServerRunner(web.Server(self._serve))  # without a router, so that each path is taken as it is
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def heard(self) -> list[Request]:
        """List the requests since the last call."""
        requests, self.requests = self.requests, []
        return requests

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        asked = Request(request.method, request.raw_path, _json(body))
        self.requests.append(asked)
        return await self._respond(request, asked, body)

    async def _respond(self, request: web.BaseRequest, asked: Request, body: bytes) -> web.StreamResponse:
        return self._answer(asked)


class ApiWiretap(Wiretap):
    """Stands before the API server. It may show objects differently from how they are stored: ``shown``, by path."""

    def __init__(self, url: str, authority: Path) -> None:
        super().__init__(lambda asked: web.Response(status=500))
        self._url = url
        self._tls = ssl.create_default_context(cafile=str(authority))
        self.shown: dict[str, Json] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ApiWiretap"]:
        async with aiohttp.ClientSession() as self._session, super().listening():
            yield self

    def kubeconfig(self, original: Path, file: Path) -> Path:
        """Make a kubeconfig of the same account that goes through here."""
        config = yaml.safe_load(original.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        file.write_text(yaml.safe_dump(config))
        return file

    async def _respond(self, request: web.BaseRequest, asked: Request, body: bytes) -> web.StreamResponse:
        kept = {key: value for key, value in request.headers.items() if key in ("Authorization", "Accept")}
        headers = {**kept, "Content-Type": request.headers.get("Content-Type", "application/json")}
        where = URL(f"{self._url}{asked.target}", encoded=True)
        async with self._session.request(asked.method, where, headers=headers, data=body, ssl=self._tls) as answer:
            said = await answer.read()
            if asked.method == "GET" and self.shown and answer.status == 200:
                said = json.dumps(self._as_shown(asked.path, json.loads(said))).encode()
            return web.Response(status=answer.status, body=said, content_type=answer.content_type)

    def _as_shown(self, path: str, found: Json) -> Json:
        if "items" not in found:
            return {**found, **self.shown.get(path, {})}
        plural = path.rpartition("/")[2]
        ends = {re.sub(r".*/namespaces/", "", where): changes for where, changes in self.shown.items()}

        def shown(item: Json) -> Json:
            metadata = item["metadata"]
            return {**item, **ends.get(f"{metadata.get('namespace')}/{plural}/{metadata['name']}", {})}

        return {**found, "items": [shown(item) for item in found["items"]]}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def gce(asked: Request) -> web.Response:
    """Make a project that has whatever one asks for."""
    name = asked.path.rpartition("/")[2]
    if name.endswith(":testIamPermissions"):
        return web.json_response({"permissions": asked.body["permissions"]})
    if name == "getGuestAttributes":
        return web.json_response({"queryValue": {"items": [{"key": "ssh-ed25519", "value": HOST_KEY}]}})
    if "/aggregated/" in asked.path or name == "operations":
        return web.json_response({"items": {} if "/aggregated/" in asked.path else []})
    found = {"name": name, "id": "1", "status": "RUNNING", "networkInterfaces": [{"networkIP": "127.0.0.1"}]}
    return web.json_response({"name": "operation-1"} if asked.method in ("POST", "DELETE") else found)


def registry(asked: Request) -> web.Response:
    """Make a registry whose answers name what lies elsewhere."""
    if asked.path.endswith("/tags/list"):
        return web.json_response({"tags": ["latest", "../../victim/manifests/x", "0a1b2c3d-p000000000001-1"]})
    if asked.method == "POST":
        return web.Response(status=202)
    manifest = {"config": {"digest": "../../victim/blobs/x"}, "annotations": {}}
    return web.json_response(manifest, headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"})


def bucket(asked: Request) -> web.Response:
    """Make an empty bucket of S3."""
    empty = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
    return web.Response(text=empty, content_type="application/xml")


HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJ7l0JHlpyUpF0wDX1cJnWo1oSVKkSHQqZaJ3Dd3M0Qo"
