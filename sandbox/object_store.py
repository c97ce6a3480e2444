"""An object store: what GCS's XML API and S3's path-style REST API have in common, which is what clients use of both.

Buckets are in memory. ``PUT /BUCKET`` makes one, as in both services. ``PUT``, ``GET``, ``HEAD`` and ``DELETE`` of
``/BUCKET/KEY`` work, uploads in parts, and ``GET /BUCKET?list-type=2`` with prefix, start-after and pages of
``max-keys``. An object exists once its whole body has arrived, never in part. Errors are the services' XML documents.

Source of the protocol: https://cloud.google.com/storage/docs/xml-api/reference-methods and Amazon's S3 API reference
(ListObjectsV2, PutObject).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "checkpoints"
"""The bucket that exists from the start."""
MAX_KEYS = 1000
MAX_OBJECT = 64 * 2**20
XML = "application/xml"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class StoredObject:
    """One version of an object."""

    body: bytes
    modified: datetime

    @classmethod
    def now(cls, body: bytes) -> StoredObject:
        """Make a version that is written now; both services give the time in seconds."""
        return cls(body, datetime.now(UTC).replace(microsecond=0))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of GET and HEAD."""
        return {
            "ETag": f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"',
            "Last-Modified": format_datetime(self.modified, usegmt=True),
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
        }


class ObjectStore:
    """Serves its buckets on a loopback port to anyone; nobody has the rights for the buckets in ``refused``."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {BUCKET: {}}
        self.refused: set[str] = set()
        self.authorizations: list[str] = []
        """The ``Authorization`` headers of callers, for tests; none is required."""
        self.url = ""
        self._uploads: dict[str, dict[int, StoredObject]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve on a free port of 127.0.0.1, at ``url``."""
        app = web.Application(client_max_size=MAX_OBJECT, middlewares=[self._note_authorization])
        app.router.add_route("*", "/{bucket}{slash:/?}", self._bucket)
        app.router.add_route("*", "/{bucket}/{key:.+}", self._object)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _note_authorization(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if shown := request.headers.get("Authorization"):
            self.authorizations = [*self.authorizations[-99:], shown]
        return await handler(request)

    async def _bucket(self, request: web.Request) -> web.Response:
        name = request.match_info["bucket"]
        if request.method == "PUT":
            self.buckets.setdefault(name, {})
            return web.Response()
        if (refusal := self._refusal(name)) is not None:
            return refusal
        if request.method == "HEAD":
            return web.Response()
        if request.method != "GET" or request.query.get("list-type") != "2":
            return _error(501, "NotImplemented", "A header or query you provided requested a function not implemented.")
        return self._list(name, request)

    def _refusal(self, bucket: str) -> web.Response | None:
        if bucket in self.refused:
            return _error(403, "AccessDenied", "Access denied.")
        if bucket not in self.buckets:
            return _error(404, "NoSuchBucket", "The specified bucket does not exist.")
        return None

    def _list(self, bucket: str, request: web.Request) -> web.Response:
        query = request.query
        prefix, most = query.get("prefix", ""), min(int(query.get("max-keys", MAX_KEYS)), MAX_KEYS)
        after = query.get("start-after", "")
        if token := query.get("continuation-token"):
            after = base64.urlsafe_b64decode(token).decode()
        keys = sorted(key for key in self.buckets[bucket] if key.startswith(prefix) and key > after)
        page, more = keys[:most], len(keys) > most
        entries = "".join(_entry(key, self.buckets[bucket][key]) for key in page)
        following = base64.urlsafe_b64encode(page[-1].encode()).decode() if more else ""
        token = f"<NextContinuationToken>{following}</NextContinuationToken>" if more else ""
        return _xml(
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        )

    async def _object(self, request: web.Request) -> web.Response:
        bucket, key = request.match_info["bucket"], request.match_info["key"]
        if (refusal := self._refusal(bucket)) is not None:
            return refusal
        objects = self.buckets[bucket]
        if "uploads" in request.query or "uploadId" in request.query:
            return await self._in_parts(request, bucket, key)
        if request.method == "PUT":
            made = objects[key] = StoredObject.now(await request.read())
            return web.Response(headers={"ETag": made.headers["ETag"]})
        if request.method == "DELETE":
            objects.pop(key, None)
            return web.Response(status=204)
        if request.method not in ("GET", "HEAD"):
            return _error(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        if key not in objects:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        return web.Response(body=objects[key].body, headers=objects[key].headers)

    async def _in_parts(self, request: web.Request, bucket: str, key: str) -> web.Response:
        """Handle a multipart upload: POST ?uploads begins it, PUT adds a part, POST completes it, DELETE drops it."""
        if request.method == "POST" and "uploads" in request.query:
            upload = secrets.token_hex(8)
            self._uploads[upload] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            )
        upload = request.query["uploadId"]
        if upload not in self._uploads:
            return _error(404, "NoSuchUpload", "The specified upload does not exist.")
        if request.method == "PUT":
            part = StoredObject.now(await request.read())
            self._uploads[upload][int(request.query["partNumber"])] = part
            return web.Response(headers={"ETag": part.headers["ETag"]})
        parts = self._uploads.pop(upload)
        if request.method == "DELETE":
            return web.Response(status=204)
        whole = StoredObject.now(b"".join(parts[number].body for number in sorted(parts)))
        self.buckets[bucket][key] = whole
        return _xml(
            f"<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
            f"<ETag>{escape(whole.headers['ETag'])}</ETag></CompleteMultipartUploadResult>"
        )


def _entry(key: str, found: StoredObject) -> str:
    modified = found.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
        f"<ETag>{escape(found.headers['ETag'])}</ETag><Size>{len(found.body)}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _error(status: int, code: str, message: str) -> web.Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", status)


def _xml(document: str, status: int = 200) -> web.Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>{document}'.encode()
    return web.Response(body=body, status=status, content_type=XML)
