"""A client of the OCI distribution API, as far as needed to find, pin and try out images.

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

from activities.network.gate import Gate
from activities.registry.connection import Answer, Connection
from activities.registry.credentials import Credentials
from activities.registry.repository import Repository, is_digest, is_tag
from api import errors
from api.names import shown

log = logging.getLogger(__name__)

Json = dict[str, Any]

PAGE = 1000
MOST_TAGS = 200_000
MOST_PAGES = 2_000
"""Limits for one repository: whoever writes a job may name a registry whose list never ends."""
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
"""Annotations by which each runtime recognises a checkpoint."""


@dataclass(frozen=True)
class Tags:
    """The tags of a repository; ``created`` is by tag, as far as the registry states it in the same answer."""

    names: list[str]
    created: dict[str, datetime]


class Registry:
    """One repository of one registry; an async context manager.

    Every method raises ``ApplicationError`` of type ``errors.PERMISSION`` if the registry wants other credentials and
    ``errors.INVALID`` if it leads to an address that the installation does not permit, and ``ConnectionError`` if it
    does not answer or fails.

    Args:
        gate: the gate through which the registry, and whatever it redirects to, is reached.
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
        """List all tags, page by page; empty if the repository does not exist yet."""
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
        """Read the digest of a tag's manifest; None if there is no such tag."""
        answer = await self._call("HEAD", self._url("manifests", reference), accept=MANIFESTS)
        if answer.status == 404:
            return None
        return self._digest_in(answer, reference)

    async def pin(self, reference: str, container: str) -> str | None:
        """Give the digest of a container's checkpoint in a form that both runtimes restore; None if it does not exist.

        The public checkpoint operator writes only CRI-O's annotation, and containerd would start such an image as an
        ordinary one. So containerd's annotation is added under the same tag; the layers stay as they were.
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
            # Tags may be immutable, or the credentials may only pull. CRI-O restores the image as it is.
            name = self._repository.name
            log.warning("only CRI-O can restore %s of %s: %s", reference, name, pushed.said)
            return digest
        # The old manifest has no tag now. Left alone, it would keep the layers when the image is deleted.
        await self._call("DELETE", self._url("manifests", digest), scope="pull,push,delete", tolerate=True)
        return self._digest_in(pushed, reference)

    async def created(self, reference: str) -> datetime | None:
        """Read when an image was made, from its annotation or else its config; None if neither says, or it is gone."""
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
        """Delete an image, and return the registry's reason if it refuses. One that is gone counts as deleted.

        The tag goes first: Google's registries delete no manifest that still has one. Many other registries cannot
        delete a tag alone; there it goes with its manifest.
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
        """Build the URL of a tag's or digest's object. Both come from containers' names and registries' answers.

        Raises:
            ApplicationError: ``errors.INVALID`` if it is neither.
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
    """Convert milliseconds since 1970; what is no number becomes 1970."""
    try:
        return datetime.fromtimestamp(int(str(text)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _time(text: str | None) -> datetime | None:
    """Parse an RFC 3339 time; None before 1970, as builders of reproducible images write the beginning of an era."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.astimezone(UTC) if found is not None and found.year >= 1970 else None
