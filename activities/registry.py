"""A client of the OCI distribution API, as far as finding, pinning and trying out images needs it.

Source of the protocol: the OCI Distribution Specification 1.1 and the registry token authentication of the
distribution project. Google's registries (gcr.io, pkg.dev) add ``manifest`` to the answer of ``tags/list``.
"""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from temporalio.exceptions import ApplicationError

from activities.gate import Gate
from activities.registry_connection import Answer, Connection
from activities.registry_credentials import Credentials
from activities.repository import Repository, is_digest, is_tag
from api import errors
from api.names import shown

log = logging.getLogger(__name__)

Json = dict[str, Any]

PAGE = 1000
MOST_TAGS = 200_000
MOST_PAGES = 2_000
"""Of one repository: whoever writes a job may name a registry that never comes to an end."""
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


@dataclass(frozen=True)
class Tags:
    """The tags of a repository; ``created`` where the registry tells it in the same answer, by tag."""

    names: list[str]
    created: dict[str, datetime]


class Registry:
    """One repository of one registry; an async context manager.

    Every method raises ``ApplicationError`` of type ``errors.PERMISSION`` if the registry wants other credentials and
    ``errors.INVALID`` if it leads to an address that the installation does not permit, and ``ConnectionError`` if it
    does not answer or fails.

    Args:
        gate: by which all of it is reached, and whatever it redirects to.
    """

    def __init__(self, repository: Repository, credentials: Credentials | None, gate: Gate) -> None:
        self._repository = repository
        self._connection = Connection(repository, credentials, gate)
        self._call = self._connection.call
        self._root = self._connection.root

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

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

    def _raise_if_away(self, answer: Answer, what: str) -> None:
        if answer.status == 429 or answer.status >= 500:
            raise ConnectionError(f"registry {self._repository.host} answered {answer.status} to {what}")

    def _digest_in(self, answer: Answer, reference: str) -> str:
        digest = answer.headers.get("Docker-Content-Digest")
        if not digest or not is_digest(digest):
            raise ConnectionError(f"registry {self._repository.host} gives no sha256 digest of {reference}")
        return digest


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
