"""A client of the OCI distribution API, as far as finding, pinning and trying out images needs it.

Source of the protocol: the OCI Distribution Specification 1.1 and the registry token authentication of the
distribution project. Google's registries (gcr.io, pkg.dev) add ``manifest`` to the answer of ``tags/list``.
"""

import asyncio
import base64
import json
import logging
import re
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
from temporalio.exceptions import ApplicationError
from yarl import URL

from activities.gate import Gate
from activities.registry_credentials import CLOUD_KEY, Credentials
from activities.repository import Repository, is_digest, is_google, is_tag
from api import errors
from api.names import shown

log = logging.getLogger(__name__)

Json = dict[str, Any]

SECONDS = 10.0
"""Time-out of one request."""
PAGE = 1000
AT_ONCE = 8
"""Requests at the same time: registries limit the rate."""
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
CREATED = "org.opencontainers.image.created"
CRIO = "io.kubernetes.cri-o.annotations.checkpoint.name"
CONTAINERD = "org.criu.checkpoint.container.name"
"""Annotations by which either runtime tells a checkpoint from another image."""
MAX_BYTES = 16 * 2**20
"""Of one answer: a page of tags, a manifest or a config."""
MOST_TAGS = 200_000
MOST_PAGES = 2_000
"""Of one repository: whoever writes a job may name a registry that never comes to an end."""
REDIRECTS = 5
CODES = frozenset(
    {
        "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DENIED", "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN",
        "SIZE_INVALID", "TAG_INVALID", "TOOMANYREQUESTS", "UNAUTHORIZED", "UNAVAILABLE", "UNKNOWN", "UNSUPPORTED",
    }
)  # fmt: skip
"""Error codes of the distribution specification: all that is ever told of an answer's body.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
"""
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


@dataclass(frozen=True)
class Tags:
    """The tags of a repository; ``created`` where the registry tells it in the same answer, by tag."""

    names: list[str]
    created: dict[str, datetime]


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    next_page: str | None

    @property
    def json(self) -> Json:
        try:
            found = json.loads(self.body)
        except ValueError:
            raise ConnectionError("a registry answers, but not in JSON") from None
        return found if isinstance(found, dict) else {}

    @property
    def said(self) -> str:
        """The status, with the codes of the specification that the body holds; never anything else of it."""
        return ", ".join([str(self.status), *_codes(self.body)])


class Registry:
    """One repository of one registry; an async context manager.

    Every method raises ``ApplicationError`` of type ``errors.PERMISSION`` if the registry wants other credentials and
    ``errors.INVALID`` if it leads to an address that the installation does not permit, and ``ConnectionError`` if it
    does not answer or fails.

    Args:
        gate: by which all of it is reached, and whatever it redirects to.
    """

    def __init__(self, repository: Repository, credentials: Credentials | None, gate: Gate) -> None:
        self._gate = gate
        self._repository = repository
        self._credentials = credentials
        self._authorization: dict[str, str] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._root = f"{repository.api}/{repository.path}"
        self._origin = URL(repository.api).origin()

    async def __aenter__(self) -> Self:
        self._passage = await self._gate.passage()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=SECONDS), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def tags(self) -> Tags:
        """All tags, page by page; none where the repository does not exist yet."""
        names: list[str] = []
        created: dict[str, datetime] = {}
        url: str | None = f"{self._root}/tags/list?n={PAGE}"
        pages = 0
        while url is not None:
            pages += 1
            if pages > MOST_PAGES or max(len(names), len(created)) > MOST_TAGS:
                raise ConnectionError(
                    f"{self._repository.name} lists more than {MOST_TAGS} tags or {MOST_PAGES} pages: use another one"
                )
            answer = await self._call("GET", url)
            if answer.status == 404:
                break
            page = answer.json
            names += filter(is_tag, page.get("tags") or [])
            for manifest in (page.get("manifest") or {}).values():
                created |= dict.fromkeys(manifest.get("tag") or [], _milliseconds(manifest.get("timeUploadedMs")))
            url = answer.next_page
        return Tags(names, created)

    async def digest(self, reference: str) -> str | None:
        """Digest of a tag's manifest, None where there is no such tag."""
        answer = await self._call("HEAD", self._url("manifests", reference), accept=MANIFESTS)
        if answer.status == 404:
            return None
        return self._digest_in(answer, reference)

    async def pin(self, reference: str, container: str) -> str | None:
        """Digest of a container's checkpoint, in a form that either runtime restores; None where there is none.

        The public checkpoint operator writes CRI-O's annotation alone, and containerd would start such an image as an
        ordinary one. Its own is added under the same tag; the layers are what they were.
        """
        answer = await self._call("GET", self._url("manifests", reference), accept=MANIFESTS)
        if answer.status == 404:
            return None
        digest, manifest = self._digest_in(answer, reference), answer.json
        annotations = manifest.get("annotations") or {}
        if CRIO not in annotations or CONTAINERD in annotations:
            return digest
        body = json.dumps({**manifest, "annotations": {**annotations, CONTAINERD: container}}).encode()
        url, kind = self._url("manifests", reference), answer.headers.get("Content-Type", "")
        pushed = await self._call("PUT", url, scope="pull,push", body=body, content_type=kind, tolerate=True)
        self._raise_if_away(pushed, "a push")
        if pushed.status >= 400:
            # Tags that may not be changed, or credentials that only pull: CRI-O restores it as it is.
            name = self._repository.name
            log.warning("%s of %s stays an image for CRI-O alone: %s", reference, name, pushed.said)
            return digest
        # Without a tag it would keep the layers in the registry when the image is deleted, where it may be deleted.
        await self._call("DELETE", self._url("manifests", digest), scope="pull,push,delete", tolerate=True)
        return self._digest_in(pushed, reference)

    async def created(self, reference: str) -> datetime | None:
        """When an image was made, by its annotation, else by its config; None where it does not say, or is gone."""
        answer = await self._call("GET", self._url("manifests", reference), accept=MANIFESTS)
        if answer.status == 404:
            return None
        manifest = answer.json
        said = _time((manifest.get("annotations") or {}).get(CREATED))
        if said is not None:
            return said
        if manifest.get("manifests"):  # an index of several platforms: they were made together
            return await self.created(manifest["manifests"][0]["digest"])
        config = (manifest.get("config") or {}).get("digest")
        if not config:
            return None
        answer = await self._call("GET", self._url("blobs", config))
        return _time(answer.json.get("created")) if answer.status == 200 else None

    async def delete(self, tag: str, digest: str | None) -> str | None:
        """Delete an image; gives the registry's reason where it does not allow that. What is gone already is deleted.

        The tag goes first: Google's registries delete no manifest that still has one, and many others know no
        deletion of a tag alone, which goes there with its manifest.
        """
        digest = digest or await self.digest(tag)
        if digest is None:
            return None
        for reference in (tag, digest):
            answer = await self._call(
                "DELETE", self._url("manifests", reference), scope="pull,push,delete", tolerate=True
            )
            self._raise_if_away(answer, "a deletion")
        if answer.status < 400 or answer.status == 404:
            return None
        return f"registry {self._repository.host} answered {answer.said} to DELETE"

    async def try_push(self) -> None:
        """Begin an upload and cancel it: whoever may do that may push."""
        answer = await self._call("POST", f"{self._root}/blobs/uploads/", scope="pull,push")
        if answer.status == 404:
            raise ApplicationError(
                f"registry {self._repository.host} has no repository {self._repository.path}, and does not make it on "
                "push: create it",
                type=errors.MISSING,
                non_retryable=True,
            )
        upload = answer.headers.get("Location")
        if upload:
            await self._call("DELETE", upload, scope="pull,push", tolerate=True)

    def _url(self, kind: Literal["manifests", "blobs"], reference: str) -> str:
        """The URL of what a tag or a digest names. Both come from containers' names and from registries' answers.

        Raises:
            ApplicationError: ``errors.INVALID``, it is neither.
        """
        if not (is_tag(reference) or is_digest(reference)):
            raise ApplicationError(
                f"{shown(reference)} is neither a tag nor a digest of an image in {self._repository.name}",
                type=errors.INVALID,
                non_retryable=True,
            )
        return f"{self._root}/{kind}/{reference}"

    def _raise_if_away(self, answer: _Answer, what: str) -> None:
        if answer.status == 429 or answer.status >= 500:
            raise ConnectionError(f"registry {self._repository.host} answered {answer.status} to {what}")

    def _digest_in(self, answer: _Answer, reference: str) -> str:
        digest = answer.headers.get("Docker-Content-Digest")
        if not digest or not is_digest(digest):
            raise ConnectionError(f"registry {self._repository.host} gives no sha256 digest of {reference}")
        return digest

    async def _call(
        self,
        method: str,
        url: str,
        *,
        accept: str = "application/json",
        scope: str = "pull",
        tolerate: bool = False,
        body: bytes | None = None,
        content_type: str = "application/octet-stream",
    ) -> _Answer:
        """One request, with the authorization that the registry asks for in its first refusal."""
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        async with self._at_once:
            try:
                answer = await self._send(method, url, headers, scope, body)
                if answer.status == 401 and await self._authorize(answer.headers, scope):
                    answer = await self._send(method, url, headers, scope, body)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise self._unreachable(error) from None
        if self._passage.refused:
            raise self._unreachable()
        if tolerate:
            return answer
        if answer.status in (401, 403):
            raise self._refused(scope, answer)
        if answer.status >= 300 and answer.status != 404:
            raise ConnectionError(f"registry {self._repository.host} answered {answer.said}")
        return answer

    async def _send(self, method: str, url: str, headers: Mapping[str, str], scope: str, body: bytes | None) -> _Answer:
        """Send one request, and if it only reads follow where the registry sends it, as it may for its blobs.

        The authorization goes to the registry's own origin and to no other.
        """
        where = URL(self._root).join(URL(url))
        for _ in range(REDIRECTS):
            shown = self._authorization.get(scope) if where.origin() == self._origin else None
            shows = {**headers, "Authorization": shown} if shown else headers
            async with self._request(method, where, headers=shows, body=body) as response:
                location = response.headers.get("Location")
                if method not in ("GET", "HEAD") or not 300 <= response.status < 400 or not location:
                    following = response.links.get("next")
                    next_page = str(following["url"]) if following is not None else None
                    return _Answer(response.status, response.headers, await _read(response), next_page)
            where = where.join(URL(location))
            self._check_scheme(where)
        raise ConnectionError(f"registry {self._repository.host} redirects more than {REDIRECTS} times")

    def _request(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Begin a request through the gate. Its token is a header of the tunnel, or without TLS of the request."""
        passage = self._passage
        tunnel = url.scheme == "https"
        return self._session.request(
            method,
            url,
            headers=headers if tunnel else {**headers, **passage.headers},
            data=body,
            proxy=passage.address,
            proxy_headers=passage.headers if tunnel else None,
            allow_redirects=False,
        )

    def _check_scheme(self, url: URL) -> None:
        """What began by TLS goes on by TLS."""
        if url.scheme != self._origin.scheme and url.scheme != "https":
            raise ConnectionError(
                f"registry {self._repository.host} redirects to a URL without TLS: it is not followed"
            )

    def _unreachable(self, error: Exception | None = None) -> ApplicationError | ConnectionError:
        """Say why there is no answer, in words of our own: the client's would quote what the other side sent."""
        if self._passage.refused:
            message = f"registry {self._repository.host}: {self._passage.refused}"
            return ApplicationError(message, type=errors.INVALID, non_retryable=True)
        match error:
            case TimeoutError():
                why = f"no answer within {SECONDS:g} s"
            case aiohttp.ClientSSLError() | ssl.SSLError():
                why = "its TLS certificate cannot be verified"
            case _:
                why = self._passage.unreachable or "it does not answer in HTTP"
        return ConnectionError(f"registry {self._repository.host}: {why}")

    async def _authorize(self, headers: Mapping[str, str], scope: str) -> bool:
        """Do what ``WWW-Authenticate`` asks for; False where there is nothing to answer it with."""
        kind, _, rest = headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic" and self._credentials is not None:
            self._authorization[scope] = self._basic()
            return True
        if kind.lower() != "bearer":
            return False
        fields = dict(_CHALLENGE.findall(rest))
        realm = URL(fields.get("realm", ""))
        if not realm.absolute:
            return False
        self._check_scheme(realm)
        # What a deletion is called differs from registry to registry: each says what it wants.
        asked = fields.get("scope") if "delete" in scope else None
        query = {"scope": asked or f"repository:{self._repository.path}:{scope}"}
        if "service" in fields:
            query["service"] = fields["service"]
        login = {"Authorization": self._basic()} if self._may_log_in_at(realm) else {}
        async with self._request("GET", realm.update_query(query), headers=login) as response:
            if response.status != 200:
                return False
            answer = _Answer(response.status, response.headers, await _read(response), None).json
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            return False
        self._authorization[scope] = f"Bearer {token}"
        return True

    def _may_log_in_at(self, realm: URL) -> bool:
        """The token service that the registry names may be shown the login. docs/decisions/0020 says why.

        Docker Hub, GitLab and Scaleway keep theirs on other hosts than the registry. The cloud's key is the exception:
        it opens more than a registry, and stays at Google.
        """
        if self._credentials is None:
            return False
        return self._credentials.named_by != CLOUD_KEY or is_google(realm.host or "")

    def _basic(self) -> str:
        assert self._credentials is not None
        login = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(login.encode()).decode()}"

    def _refused(self, scope: str, answer: _Answer) -> ApplicationError:
        known = self._credentials
        who = f"user {known.username!r}" if known is not None else "an anonymous user"
        remedy = (
            f"correct the Secret that {known.named_by} names, or its permissions"
            if known is not None
            else "set checkpointRepoCredentialRef"
        )
        what = "push to" if "push" in scope else "pull from"
        return ApplicationError(
            f"registry {self._repository.host} does not let {who} {what} {self._repository.path} ({answer.status}): "
            f"{remedy}",
            type=errors.PERMISSION,
            non_retryable=True,
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        body += chunk
        if len(body) > MAX_BYTES:
            raise ConnectionError(f"a registry answers with more than {MAX_BYTES // 2**20} MiB")
    return bytes(body)


def _codes(body: bytes) -> list[str]:
    try:
        listed = json.loads(body)["errors"]
        return [each["code"] for each in listed[:3] if each["code"] in CODES]
    except (ValueError, LookupError, TypeError):
        return []


def _milliseconds(text: object) -> datetime:
    """A time since 1970 in milliseconds; what is none is long ago."""
    try:
        return datetime.fromtimestamp(int(str(text)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _time(text: str | None) -> datetime | None:
    """An RFC 3339 time; builders that want the same bytes each time write the beginning of an era."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.astimezone(UTC) if found is not None and found.year >= 1970 else None
