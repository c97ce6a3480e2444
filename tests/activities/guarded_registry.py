"""A registry that asks for credentials, as Google's and Docker's do. No registry on loopback can show that."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
USER, PASSWORD = "_json_key", '{"type": "service_account", "ü": 1}'


@dataclass
class Guarded:
    """Tokens for ``USER``; tags page by page, or all at once with ``manifest``, as Google answers."""

    bearer: bool
    google: dict[str, Any] | None = None
    may_push: bool = True
    deletion: int = 202  # the status with which it answers the deletion of a manifest
    by_tag: int = 202  # and that of a tag
    annotations: dict[str, str] = field(default_factory=dict)  # of every manifest
    changed: int = 201  # the status with which it answers the push of a manifest
    deleted: list[str] = field(default_factory=list)
    endless: bool = False  # its list of tags never ends
    address: str = ""
    scopes: list[str] = field(default_factory=list)

    async def token(self, request: web.Request) -> web.Response:
        """Answer as the token server."""
        if not self._is_user(request):
            return web.json_response({}, status=401)
        self.scopes.append(request.query["scope"])
        return web.json_response({"token": f"for {request.query['scope'].rpartition(':')[2]}"})

    async def tags(self, request: web.Request) -> web.Response:
        """List the tags on two pages, or on Google's one."""
        if refused := self._refusal(request, "pull"):
            return refused
        if self.google is not None:
            tags = [tag for manifest in self.google.values() for tag in manifest["tag"]]
            return web.json_response({"name": "p/repo", "tags": tags, "manifest": self.google})
        if "last" in request.query and not self.endless:
            return web.json_response({"tags": ["b"]})
        following = {"Link": f'<{request.path}?last=a&n=1>; rel="next"'}
        return web.json_response({"tags": ["a"]}, headers=following)

    async def manifest(self, request: web.Request) -> web.Response:
        """Return any tag's manifest."""
        if refused := self._refusal(request, "pull"):
            return refused
        return web.json_response({"annotations": self.annotations}, headers={"Docker-Content-Digest": DIGEST})

    async def push(self, request: web.Request) -> web.Response:
        """Take another manifest for a tag."""
        if refused := self._refusal(request, "pull,push"):
            return refused
        return web.Response(status=self.changed, headers={"Docker-Content-Digest": OTHER_DIGEST})

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a tag or a manifest, for those who may."""
        if refused := self._refusal(request, "delete"):
            return refused
        reference = request.match_info["reference"]
        status = self.deletion if reference.startswith("sha256:") else self.by_tag
        if status < 300:
            self.deleted.append(reference)
        return web.json_response({"errors": [{"code": "UNSUPPORTED"}]}, status=status)

    async def upload(self, request: web.Request) -> web.Response:
        """Begin a push."""
        if refused := self._refusal(request, "pull,push"):
            return refused
        return web.Response(status=202 if self.may_push else 403, headers={"Location": "/v2/p/repo/blobs/uploads/1"})

    def _refusal(self, request: web.Request, scope: str) -> web.Response | None:
        if not self.bearer:
            asks = {"WWW-Authenticate": 'Basic realm="registry"'}
            return None if self._is_user(request) else web.Response(status=401, headers=asks)
        wanted = f"repository:p/repo:{scope}"
        asks = {"WWW-Authenticate": f'Bearer realm="http://{self.address}/token",service="s",scope="{wanted}"'}
        good = request.headers.get("Authorization") == f"Bearer for {scope}"
        return None if good else web.Response(status=401, headers=asks)

    def _is_user(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(given).decode() == f"{USER}:{PASSWORD}"


@asynccontextmanager
async def guarded_registry(**how: Any) -> AsyncIterator[Guarded]:
    """Run a guarded registry on a free port."""
    registry = Guarded(**how)
    app = web.Application()
    app.router.add_get("/token", registry.token)
    app.router.add_get("/v2/p/repo/tags/list", registry.tags)
    app.router.add_get("/v2/p/repo/manifests/{reference}", registry.manifest)
    app.router.add_put("/v2/p/repo/manifests/{reference}", registry.push)
    app.router.add_delete("/v2/p/repo/manifests/{reference}", registry.delete)
    app.router.add_post("/v2/p/repo/blobs/uploads/", registry.upload)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry
    finally:
        await runner.cleanup()
