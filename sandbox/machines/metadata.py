"""A VM's metadata server, by Compute Engine's rules: required header, directories, ETags, waiting for a change.

Protocol: https://cloud.google.com/compute/docs/metadata/querying-metadata
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
import zlib
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from sandbox.machines import MachineSpec

_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_ROOT = "/computeMetadata/v1"

_LOOK_AGAIN = 1.0
"""How often waiting requests look again, in seconds: nobody tells this server when instance metadata change."""

Tree = Mapping[str, Any]


class MetadataServer:
    """Answers on <address>:<port> for one VM; ``guest_attributes`` is what programs in the guest have published."""

    def __init__(self, spec: MachineSpec, port: int) -> None:
        self._spec = spec
        self._port = port
        self._preempted = False
        self._changed = asyncio.Event()
        self._failure: tuple[int, float] = (0, 0.0)
        self._runner: web.AppRunner | None = None
        self.guest_attributes: dict[str, str] = {}

    async def start(self, listening: socket.socket | None = None) -> None:
        """Listen on the VM's address, or on a socket that listens already.

        Raises:
            OSError: address and port are taken.
        """
        self._preempted = False
        app = web.Application()
        app.router.add_get("/", self._hello)
        app.router.add_get(_ROOT + "/{path:.*}", self._get)
        app.router.add_put(_ROOT + "/instance/guest-attributes/{namespace}/{key}", self._put_guest_attribute)
        app.router.add_delete(_ROOT + "/instance/guest-attributes/{namespace}/{key}", self._delete_guest_attribute)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
        await self._runner.setup()
        if listening is not None:
            await web.SockSite(self._runner, listening).start()
        else:
            await web.TCPSite(self._runner, self._spec.address, self._port).start()

    async def cut(self) -> None:
        """Stop listening, and break all requests that wait."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        if (server := runner.server) is not None:
            for connection in list(server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        await runner.cleanup()

    def preempt(self) -> None:
        """Answer TRUE at ``instance/preempted`` from now on."""
        self._preempted = True
        self._notify()

    def fail(self, status: int, seconds: float) -> None:
        """Answer everything with ``status`` (401, 503, …) for ``seconds`` of real time."""
        self._failure = (status, time.monotonic() + seconds)

    def publish(self, key: str, value: str) -> None:
        """Set the guest attribute ``namespace/key``."""
        self.guest_attributes[key] = value
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _hello(self, _request: web.Request) -> web.Response:
        return web.Response(text="computeMetadata/\n", headers=_FLAVOR)

    async def _get(self, request: web.Request) -> web.Response:
        if refusal := self._refuse(request):
            return refusal
        path = request.match_info["path"]
        etag, text, content_type = self._read(path, request.query)
        if request.query.get("wait_for_change", "").lower() == "true":
            last = request.query.get("last_etag", etag)
            limit = request.query.get("timeout_sec", "inf")
            if not limit.isdecimal() and limit != "inf":
                raise web.HTTPBadRequest(text=f"timeout_sec must be a number of seconds, not {limit}", headers=_FLAVOR)
            deadline = time.monotonic() + float(limit)
            while etag == last and (left := deadline - time.monotonic()) > 0:
                changed = self._changed
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, _LOOK_AGAIN))
                if refusal := self._refuse(request):
                    return refusal
                etag, text, content_type = self._read(path, request.query)
        return web.Response(text=text, content_type=content_type, headers=_FLAVOR | {"ETag": etag})

    async def _put_guest_attribute(self, request: web.Request) -> web.Response:
        if refusal := self._refuse(request) or self._guest_attributes_disabled():
            return refusal
        key = f"{request.match_info['namespace']}/{request.match_info['key']}"
        self.publish(key, await request.text())
        return web.Response(headers=_FLAVOR)

    async def _delete_guest_attribute(self, request: web.Request) -> web.Response:
        if refusal := self._refuse(request) or self._guest_attributes_disabled():
            return refusal
        key = f"{request.match_info['namespace']}/{request.match_info['key']}"
        if self.guest_attributes.pop(key, None) is None:
            return web.Response(status=404, headers=_FLAVOR)
        self._notify()
        return web.Response(headers=_FLAVOR)

    def _refuse(self, request: web.Request) -> web.Response | None:
        status, until = self._failure
        if time.monotonic() < until:
            return web.Response(status=status, headers=_FLAVOR)
        # Both rules keep web pages and careless proxies from reading metadata.
        if request.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in request.headers:
            text = "Missing Metadata-Flavor:Google header."
            return web.Response(status=403, text=text, headers=_FLAVOR)
        return None

    def _guest_attributes_disabled(self) -> web.Response | None:
        if self._spec.metadata.get("enable-guest-attributes", "").upper() == "TRUE":
            return None
        return web.Response(status=403, text="Guest attributes endpoint access is disabled.", headers=_FLAVOR)

    def _read(self, path: str, query: Mapping[str, str]) -> tuple[str, str, str]:
        """Return ETag, content and content type at ``path``.

        Raises:
            web.HTTPException: 404, or the redirect to a directory's own path.
        """
        found: Any = self._tree()
        for part in path.rstrip("/").split("/") if path.strip("/") else ():
            if not isinstance(found, Mapping) or part not in found:
                raise web.HTTPNotFound(headers=_FLAVOR)
            found = found[part]
        if not isinstance(found, Mapping):
            if path.endswith("/"):
                raise web.HTTPNotFound(headers=_FLAVOR)
            text, content_type = str(found), "application/text"
            if query.get("alt") == "json":
                text, content_type = json.dumps(found), "application/json"
        elif query.get("recursive", "").lower() == "true":
            text, content_type = json.dumps(_camel(found)), "application/json"
        elif path and not path.endswith("/"):
            raise web.HTTPMovedPermanently(f"{_ROOT}/{path}/", headers=_FLAVOR)
        else:
            names = [name + "/" if isinstance(content, Mapping) else name for name, content in found.items()]
            text, content_type = "".join(f"{name}\n" for name in names), "application/text"
        return hashlib.sha256(text.encode()).hexdigest()[:16], text, content_type

    def _tree(self) -> Tree:
        spec = self._spec
        number = 10**11 + zlib.crc32(spec.project.encode())
        guest: dict[str, dict[str, str]] = {}
        for path, value in self.guest_attributes.items():
            namespace, _, key = path.partition("/")
            guest.setdefault(namespace, {})[key] = value
        instance: dict[str, Any] = {
            "attributes": dict(spec.metadata),
            "guest-attributes": guest,
            "hostname": f"{spec.name}.{spec.zone}.c.{spec.project}.internal",
            "id": spec.instance_id,
            "machine-type": f"projects/{number}/machineTypes/{spec.machine_type}",
            "maintenance-event": "NONE",
            "name": spec.name,
            "network-interfaces": {"0": {"ip": spec.address}},
            "preempted": "TRUE" if self._preempted else "FALSE",
            "zone": f"projects/{number}/zones/{spec.zone}",
        }
        if spec.service_account:
            account = {"aliases": "default", "email": spec.service_account}
            instance["service-accounts"] = {"default": account, spec.service_account: account}
        return {"instance": instance, "project": {"numeric-project-id": number, "project-id": spec.project}}


def _camel(tree: Tree) -> dict[str, Any]:
    """Write directory names as recursive answers do (``machineType``); names that users chose stay as they are."""
    chosen_by_users = {"attributes", "guest-attributes"}
    result: dict[str, Any] = {}
    for name, content in tree.items():
        head, *rest = name.split("-")
        camel = head + "".join(word.capitalize() for word in rest)
        if isinstance(content, Mapping) and name not in chosen_by_users:
            content = _camel(content)
        result[camel] = content
    return result
