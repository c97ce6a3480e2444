"""A small client of an OCI registry: image references, manifests and blobs.

Protocol: OCI Distribution Specification 1.1. Credentials are sent as HTTP Basic; token servers are not supported.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import aiohttp

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
ACCEPTED = ", ".join(
    (
        MANIFEST_TYPE,
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
DEFAULT_HOST = "docker.io"
CONNECT_SECONDS = 30.0
SILENCE_SECONDS = 120.0
"""How long a registry that has the whole request may stay silent: it may have to hash and store a gigabyte first."""
SLOWEST_BYTES_PER_SECOND = 1_000_000
"""An upload that is slower is given up. Its duration depends on its size, so no fixed deadline fits all."""
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

Json = dict[str, Any]


class RegistryError(Exception):
    """The registry refused a request; ``status`` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"registry answered {status}: {message}")
        self.status = status


@dataclass(frozen=True)
class ImageRef:
    """The parts of an image's name: ``host/repository[:tag][@digest]``."""

    host: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, name: str) -> ImageRef:
        """Take a name apart by the rules of container runtimes.

        Raises:
            ValueError: the name is not valid.
        """
        rest, _, digest = name.partition("@")
        first, slash, remainder = rest.partition("/")
        is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
        host, path = (first, remainder) if is_host else (DEFAULT_HOST, rest)
        repository, _, tag = path.partition(":")
        if not _PATH.fullmatch(repository) or (tag and not _TAG.fullmatch(tag)):
            raise ValueError(f"invalid image name {name!r}")
        return cls(host, repository, tag or (None if digest else "latest"), digest or None)

    @property
    def reference(self) -> str:
        """What names the manifest in the registry: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def is_loopback(self) -> bool:
        """True if the registry runs on this machine; runtimes allow plain HTTP then."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """True if ``host[:port]`` is this machine."""
    name = host.rpartition(":")[0] or host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def digest_of(data: bytes) -> str:
    """Return the digest of some content, in the registry's notation."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class OciClient:
    """Talks to one registry, as an asynchronous context manager."""

    def __init__(self, host: str, *, plain_http: bool, credentials: tuple[str, str] | None = None) -> None:
        self._base = f"{'http' if plain_http else 'https'}://{host}"
        self._headers = {"Authorization": _basic(*credentials)} if credentials else {}

    async def __aenter__(self) -> OciClient:
        self._session = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ping(self) -> None:
        """Check that the registry answers and accepts the credentials.

        Raises:
            RegistryError: it refuses them.
        """
        await self._call("GET", f"{self._base}/v2/")

    async def manifest(self, repository: str, reference: str) -> tuple[Json, str]:
        """Read a manifest by tag or digest, and return it with its digest."""
        url = f"{self._base}/v2/{repository}/manifests/{reference}"
        _, body = await self._call("GET", url, headers={"Accept": ACCEPTED})
        return json.loads(body), digest_of(body)

    async def blob(self, repository: str, digest: str) -> bytes:
        """Read a blob and check its digest.

        Raises:
            RegistryError: the blob is missing or damaged.
        """
        _, body = await self._call("GET", f"{self._base}/v2/{repository}/blobs/{digest}")
        if digest_of(body) != digest:
            raise RegistryError(200, f"unexpected commit digest {digest_of(body)}, expected {digest}")
        return body

    async def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob, even if something refers to it."""
        await self._call("DELETE", f"{self._base}/v2/{repository}/blobs/{digest}")

    async def has_blob(self, repository: str, digest: str) -> bool:
        """True if the registry has a blob, which then needs no upload.

        Raises:
            RegistryError: the registry does not say.
        """
        try:
            await self._call("HEAD", f"{self._base}/v2/{repository}/blobs/{digest}")
        except RegistryError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def push_blob(self, repository: str, data: bytes, media_type: str) -> Json:
        """Upload a blob in one piece and return its descriptor."""
        digest = await asyncio.to_thread(digest_of, data)  # takes a second for a gigabyte
        start = f"{self._base}/v2/{repository}/blobs/uploads/"
        headers, _ = await self._call("POST", start)
        location = urljoin(start, headers["Location"])
        target = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        await self._call("PUT", target, data=data, headers={"Content-Type": "application/octet-stream"})
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    async def push_manifest(self, repository: str, reference: str, manifest: Json) -> str:
        """Upload a manifest under a tag and return its digest."""
        data = json.dumps(manifest).encode()
        url = f"{self._base}/v2/{repository}/manifests/{reference}"
        await self._call("PUT", url, data=data, headers={"Content-Type": manifest["mediaType"]})
        return digest_of(data)

    async def _call(
        self, method: str, url: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[Mapping[str, str], bytes]:
        upload = SILENCE_SECONDS + len(data) / SLOWEST_BYTES_PER_SECOND if data is not None else None
        timeout = aiohttp.ClientTimeout(total=upload, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        async with self._session.request(method, url, data=data, headers=headers, timeout=timeout) as response:
            body = await response.read()
            if response.status >= 400:
                raise RegistryError(response.status, body.decode(errors="replace").strip() or response.reason or "")
            return response.headers, body


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
