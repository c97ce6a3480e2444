"""A small client of the Kubernetes API for the sandbox's own parts: JSON in, JSON out, and a watch that lasts.

The sandbox talks to its API server as a kubelet, as an operator or as an administrator would. It needs neither models
nor informers, so it uses plain HTTP over aiohttp.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

log = logging.getLogger(__name__)

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

PUT_OFF_AT_MOST = 10
PUT_OFF_SECONDS = 1.0
"""Seconds before a request is repeated, as the API server says in Retry-After."""
CALL_SECONDS = 10.0
WATCH_SECONDS = 300
"""How long one watch request should last, in seconds."""
SILENCE_SECONDS = 70.0
"""Bookmarks come every 60 s: a watch that is silent for longer is a dead connection."""
RETRY_SECONDS = 1.0

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ApiError(Exception):
    """The API server refused a call. ``status`` is the HTTP code, ``reason`` the machine-readable reason."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What a call raises if the API server does not answer."""


@dataclass(frozen=True)
class Change:
    """One message of ``KubeClient.follow``: ``SYNC`` has the whole list, any other type has one object."""

    type: str
    object: Any


class KubeClient:
    """One identity's connection to one API server."""

    def __init__(self, server: str, tls: ssl.SSLContext, token: str | None = None) -> None:
        self.server = server.rstrip("/")
        self.tls = tls
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @classmethod
    def with_certificate(cls, server: str, ca: Path, certificate: Path, key: Path) -> KubeClient:
        """Connect with a client certificate, as kubelets do."""
        tls = ssl.create_default_context(cafile=str(ca))
        tls.load_cert_chain(certificate, key)
        return cls(server, tls)

    @classmethod
    def from_kubeconfig(cls, path: Path, *, kubelet: str | None = None) -> KubeClient:
        """Connect as the current context of a kubeconfig says: with a client certificate, a token, or both.

        With ``kubelet``, a host:port, connects to that kubelet with the same identity. Its certificate is not verified,
        because kubelets sign their own.
        """
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        tls = ssl.create_default_context(cadata=_material(cluster, "certificate-authority", path).decode())
        if kubelet:
            _verify_nothing(tls)
        if "client-certificate" in user or "client-certificate-data" in user:
            # The ssl module loads client certificates only from files.
            with tempfile.TemporaryDirectory() as directory:
                certificate, key = Path(directory, "client.crt"), Path(directory, "client.key")
                certificate.write_bytes(_material(user, "client-certificate", path))
                key.touch(mode=0o600)
                key.write_bytes(_material(user, "client-key", path))
                tls.load_cert_chain(certificate, key)
        return cls(f"https://{kubelet}" if kubelet else cluster["server"], tls, user.get("token"))

    @classmethod
    def in_pod(cls, *, kubelet: str | None = None) -> KubeClient:
        """Connect as the ServiceAccount of the pod in which this runs, to the API server or, as above, to a kubelet."""
        token, ca = (_SERVICE_ACCOUNT / name for name in ("token", "ca.crt"))
        tls = ssl.create_default_context(cafile=str(ca))
        if kubelet:
            _verify_nothing(tls)
        server = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        return cls(f"https://{kubelet or server}", tls, token.read_text())

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        seconds: float = CALL_SECONDS,
    ) -> Json:
        """Make one request and return the decoded answer, empty if it is not JSON.

        If the server answers 429, the request is repeated, as other clients do it. It answers so for a kind whose CRD
        has just changed, for example.

        Raises:
            ApiError: the server refuses the request.
            OSError: the server does not answer within ``seconds`` (one of ``UNREACHABLE``).
        """
        for _ in range(PUT_OFF_AT_MOST):
            try:
                return await self._call(method, path, body, params, content_type, seconds)
            except ApiError as error:
                if error.status != 429:
                    raise
            await asyncio.sleep(PUT_OFF_SECONDS)
        return await self._call(method, path, body, params, content_type, seconds)

    async def _call(
        self, method: str, path: str, body: Any, params: Mapping[str, str] | None, content_type: str, seconds: float
    ) -> Json:
        data = None if body is None else json.dumps(body)
        async with self._open().request(
            method,
            self.server + path,
            data=data,
            params=params,
            headers={"Content-Type": content_type},
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as response:
            text = await response.text()
            if response.status >= 400:
                raise _api_error(response.status, text)
            return dict(json.loads(text)) if response.content_type == "application/json" else {}

    async def get(self, path: str, **params: str) -> Json:
        """Read one object or one list."""
        return await self.call("GET", path, params=params)

    async def create(self, path: str, body: Json) -> Json:
        """Create an object in the collection at ``path``."""
        return await self.call("POST", path, body)

    async def replace(self, path: str, body: Json) -> Json:
        """Write a whole object back; a 409 says that it was changed in between."""
        return await self.call("PUT", path, body)

    async def patch(self, path: str, body: Json, content_type: str = MERGE) -> Json:
        """Change a part of an object."""
        return await self.call("PATCH", path, body, content_type=content_type)

    async def apply(self, path: str, body: Json, manager: str) -> Json:
        """Apply an object on the server's side, as the field manager ``manager``."""
        params = {"fieldManager": manager, "force": "true"}
        return await self.call("PATCH", path, body, params=params, content_type=APPLY)

    async def delete(self, path: str, options: Json | None = None) -> Json:
        """Delete an object, with these DeleteOptions if any."""
        return await self.call("DELETE", path, options)

    async def follow(self, path: str, **selectors: str) -> AsyncIterator[Change]:
        """List, then watch, for ever; a lost connection or an expired version leads to a new list, a new ``SYNC``."""
        while not self._closed:
            try:
                listing = await self.get(path, **selectors)
                yield Change("SYNC", listing["items"])
                version = listing["metadata"]["resourceVersion"]
                while True:
                    async for event in self._watch(path, {**selectors, "resourceVersion": version}):
                        version = event.object["metadata"]["resourceVersion"]
                        if event.type != "BOOKMARK":
                            yield event
            except (ApiError, *UNREACHABLE) as error:
                log.debug("watch of %s ended (%s); listing again", path, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """End all requests that are under way, and refuse further ones."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Change]:
        options = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        async with self._open().get(
            self.server + path,
            params={**params, **options},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=SILENCE_SECONDS),
        ) as response:
            if response.status >= 400:
                raise _api_error(response.status, await response.text())
            rest = b""
            # Objects may be longer than any line limit of the stream reader, so the lines are cut here.
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield Change(event["type"], event["object"])

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise aiohttp.ClientConnectionError(f"this client of {self.server} was closed")
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self.tls)
            self._session = aiohttp.ClientSession(connector=connector, headers=self.headers)
        return self._session


def _verify_nothing(tls: ssl.SSLContext) -> None:
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE


def _named(entries: list[Json], name: str) -> Json:
    return next(entry for entry in entries if entry["name"] == name)


def _material(section: Json, field: str, kubeconfig: Path) -> bytes:
    """Read a certificate or key of a kubeconfig, which contains it or names a file relative to itself."""
    if f"{field}-data" in section:
        return base64.b64decode(section[f"{field}-data"])
    return (kubeconfig.parent / str(section[field])).read_bytes()


def _api_error(status: int, text: str) -> ApiError:
    try:
        body = json.loads(text)
        return ApiError(status, body.get("reason", ""), body.get("message", text))
    except (ValueError, AttributeError):
        return ApiError(status, "", text.strip())
