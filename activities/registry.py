"""A client of the OCI distribution API, as far as finding, pinning and trying out images needs it.

Source of the protocol: the OCI Distribution Specification 1.1 and the registry token authentication of the
distribution project. Google's registries (gcr.io, pkg.dev) add ``manifest`` to the answer of ``tags/list``.
"""

import asyncio
import base64
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import aiohttp
from temporalio.exceptions import ApplicationError

from activities.registry_credentials import Credentials
from activities.repository import Repository
from api import errors

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
        except ValueError as error:
            raise ConnectionError(f"a registry answers, but not in JSON: {self.body[:200]!r}") from error
        return found if isinstance(found, dict) else {}


class Registry:
    """One repository of one registry; an async context manager.

    Every method raises ``ApplicationError`` of type ``errors.PERMISSION`` where the registry wants other credentials,
    and ``ConnectionError`` where it does not answer or fails.
    """

    def __init__(self, repository: Repository, credentials: Credentials | None) -> None:
        self._repository = repository
        self._credentials = credentials
        self._authorization: dict[str, str] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._root = f"{repository.api}/{repository.path}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), trust_env=True)
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
        while url is not None:
            answer = await self._call("GET", url)
            if answer.status == 404:
                break
            page = answer.json
            names += page.get("tags") or []
            for manifest in (page.get("manifest") or {}).values():
                uploaded = datetime.fromtimestamp(int(manifest.get("timeUploadedMs") or 0) / 1000, UTC)
                created |= dict.fromkeys(manifest.get("tag") or [], uploaded)
            url = answer.next_page
        return Tags(names, created)

    async def digest(self, reference: str) -> str | None:
        """Digest of a tag's manifest, None where there is no such tag."""
        answer = await self._call("HEAD", f"{self._root}/manifests/{reference}", accept=MANIFESTS)
        if answer.status == 404:
            return None
        return self._digest_in(answer, reference)

    async def pin(self, reference: str, container: str) -> str | None:
        """Digest of a container's checkpoint, in a form that either runtime restores; None where there is none.

        The public checkpoint operator writes CRI-O's annotation alone, and containerd would start such an image as an
        ordinary one. Its own is added under the same tag; the layers are what they were.
        """
        answer = await self._call("GET", f"{self._root}/manifests/{reference}", accept=MANIFESTS)
        if answer.status == 404:
            return None
        digest, manifest = self._digest_in(answer, reference), answer.json
        annotations = manifest.get("annotations") or {}
        if CRIO not in annotations or CONTAINERD in annotations:
            return digest
        body = json.dumps({**manifest, "annotations": {**annotations, CONTAINERD: container}}).encode()
        url, kind = f"{self._root}/manifests/{reference}", answer.headers["Content-Type"]
        pushed = await self._call("PUT", url, scope="pull,push", body=body, content_type=kind, tolerate=True)
        self._raise_if_away(pushed, "a push")
        if pushed.status >= 400:
            # Tags that may not be changed, or credentials that only pull: CRI-O restores it as it is.
            name = self._repository.name
            log.warning("%s of %s stays an image for CRI-O alone: %s", reference, name, pushed.body[:200])
            return digest
        # Without a tag it would keep the layers in the registry when the image is deleted, where it may be deleted.
        await self._call("DELETE", f"{self._root}/manifests/{digest}", scope="pull,push,delete", tolerate=True)
        return self._digest_in(pushed, reference)

    async def created(self, reference: str) -> datetime | None:
        """When an image was made, by its annotation, else by its config; None where it does not say, or is gone."""
        answer = await self._call("GET", f"{self._root}/manifests/{reference}", accept=MANIFESTS)
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
        answer = await self._call("GET", f"{self._root}/blobs/{config}")
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
                "DELETE", f"{self._root}/manifests/{reference}", scope="pull,push,delete", tolerate=True
            )
            self._raise_if_away(answer, "a deletion")
        if answer.status < 400 or answer.status == 404:
            return None
        return f"registry {self._repository.host} answered {answer.status} to DELETE: {answer.body[:200]!r}"

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
            await self._call("DELETE", urljoin(self._root, upload), scope="pull,push", tolerate=True)

    def _raise_if_away(self, answer: _Answer, what: str) -> None:
        if answer.status == 429 or answer.status >= 500:
            raise ConnectionError(f"registry {self._repository.host} answered {answer.status} to {what}")

    def _digest_in(self, answer: _Answer, reference: str) -> str:
        digest = answer.headers.get("Docker-Content-Digest")
        if not digest:
            raise ConnectionError(f"registry {self._repository.host} gives no digest of {reference}")
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
            except (aiohttp.ClientError, TimeoutError) as error:
                why = str(error) or f"no answer within {SECONDS:g} s"
                raise ConnectionError(f"registry {self._repository.host}: {why}") from error
        if tolerate:
            return answer
        if answer.status in (401, 403):
            raise self._refused(scope, answer)
        if answer.status >= 400 and answer.status != 404:
            raise ConnectionError(f"registry {self._repository.host} answered {answer.status}: {answer.body[:200]!r}")
        return answer

    async def _send(self, method: str, url: str, headers: Mapping[str, str], scope: str, body: bytes | None) -> _Answer:
        if scope in self._authorization and url.startswith(self._repository.api.removesuffix("/v2")):
            headers = {**headers, "Authorization": self._authorization[scope]}
        async with self._session.request(method, url, headers=headers, data=body) as response:
            following = response.links.get("next")
            next_page = str(following["url"]) if following is not None else None
            return _Answer(response.status, response.headers, await response.read(), next_page)

    async def _authorize(self, headers: Mapping[str, str], scope: str) -> bool:
        """Do what ``WWW-Authenticate`` asks for; False where there is nothing to answer it with."""
        kind, _, rest = headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic" and self._credentials is not None:
            self._authorization[scope] = self._basic()
            return True
        if kind.lower() != "bearer":
            return False
        fields = dict(_CHALLENGE.findall(rest))
        # What a deletion is called differs from registry to registry: each says what it wants.
        asked = fields.get("scope") if "delete" in scope else None
        query = {"scope": asked or f"repository:{self._repository.path}:{scope}"}
        if "service" in fields:
            query["service"] = fields["service"]
        login = {"Authorization": self._basic()} if self._credentials is not None else {}
        async with self._session.get(fields["realm"], params=query, headers=login) as response:
            if response.status != 200:
                return False
            token = await response.json(content_type=None)
        self._authorization[scope] = f"Bearer {token.get('token') or token.get('access_token')}"
        return True

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


def _time(text: str | None) -> datetime | None:
    """An RFC 3339 time; builders that want the same bytes each time write the beginning of an era."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.astimezone(UTC) if found is not None and found.year >= 1970 else None
