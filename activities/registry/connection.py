"""HTTP to a registry: through the gate, with the authorization that it asks for, and without quoting its words."""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from temporalio.exceptions import ApplicationError
from yarl import URL

from activities.network.gate import Gate
from activities.registry.credentials import CLOUD_KEY, Credentials
from activities.registry.repository import Repository, is_google
from api import errors

Json = dict[str, Any]

SECONDS = 10.0
"""Time-out of one request."""
AT_ONCE = 8
"""Requests at the same time: registries limit the rate."""
MAX_BYTES = 16 * 2**20
"""Limit for one answer: a page of tags, a manifest or a config."""
REDIRECTS = 5
CODES = frozenset(
    {
        "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DENIED", "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN",
        "SIZE_INVALID", "TAG_INVALID", "TOOMANYREQUESTS", "UNAUTHORIZED", "UNAVAILABLE", "UNKNOWN", "UNSUPPORTED",
    }
)  # fmt: skip
"""Error codes of the distribution specification, the only words of an answer's body that are ever shown.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
"""
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


@dataclass(frozen=True)
class Answer:
    """What a registry answered; ``next_page`` is the URL of the next page."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    next_page: str | None

    @property
    def json(self) -> Json:
        """Parse the body as an object; empty if it is no object."""
        try:
            found = json.loads(self.body)
        except ValueError:
            raise ConnectionError("a registry answers, but not in JSON") from None
        return found if isinstance(found, dict) else {}

    @property
    def said(self) -> str:
        """Give the status and the specification's codes in the body; nothing else of the body is shown."""
        return ", ".join([str(self.status), *_codes(self.body)])


class Connection:
    """Requests about one repository; an async context manager.

    Args:
        repository: the repository whose registry is asked.
        credentials: None for an anonymous user.
        gate: the gate through which the registry, and whatever it redirects to, is reached.
    """

    def __init__(self, repository: Repository, credentials: Credentials | None, gate: Gate) -> None:
        self.root = f"{repository.api}/{repository.path}"
        self._gate = gate
        self._repository = repository
        self._credentials = credentials
        self._authorization: dict[str, str] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
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

    async def call(
        self,
        method: str,
        url: str,
        *,
        accept: str = "application/json",
        scope: str = "pull",
        tolerate: bool = False,
        body: bytes | None = None,
        content_type: str = "application/octet-stream",
    ) -> Answer:
        """Send a request, with the authorization that the registry asks for in its first refusal.

        Args:
            method: the HTTP method.
            url: absolute, or relative to the repository's.
            accept: the media types that the answer may have.
            scope: the right that is needed: ``pull``, ``pull,push`` or ``pull,push,delete``.
            tolerate: return the answer whatever its status.
            body: the body to send.
            content_type: the body's media type.
        """
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

    async def _send(self, method: str, url: str, headers: Mapping[str, str], scope: str, body: bytes | None) -> Answer:
        """Send one request; if it only reads, follow redirects, which registries may use for blobs.

        The authorization is sent to the registry's own origin and to no other.
        """
        where = URL(self.root).join(URL(url))
        for _ in range(REDIRECTS):
            shown = self._authorization.get(scope) if where.origin() == self._origin else None
            shows = {**headers, "Authorization": shown} if shown else headers
            async with self._request(method, where, headers=shows, body=body) as response:
                location = response.headers.get("Location")
                if method not in ("GET", "HEAD") or not 300 <= response.status < 400 or not location:
                    following = response.links.get("next")
                    next_page = str(following["url"]) if following is not None else None
                    return Answer(response.status, response.headers, await _read(response), next_page)
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
        """Refuse to continue without TLS what began with it."""
        if url.scheme != self._origin.scheme and url.scheme != "https":
            raise ConnectionError(
                f"registry {self._repository.host} redirects to a URL without TLS: it is not followed"
            )

    def _unreachable(self, error: Exception | None = None) -> ApplicationError | ConnectionError:
        """Explain the lack of an answer in our own words: the client's would quote what the other side sent."""
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
        """Do what ``WWW-Authenticate`` asks for; False if there is nothing to answer it with."""
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
        # The scope of a deletion differs from registry to registry, and each names the one that it wants.
        asked = fields.get("scope") if "delete" in scope else None
        query = {"scope": asked or f"repository:{self._repository.path}:{scope}"}
        if "service" in fields:
            query["service"] = fields["service"]
        login = {"Authorization": self._basic()} if self._may_log_in_at(realm) else {}
        async with self._request("GET", realm.update_query(query), headers=login) as response:
            if response.status != 200:
                return False
            answer = Answer(response.status, response.headers, await _read(response), None).json
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            return False
        self._authorization[scope] = f"Bearer {token}"
        return True

    def _may_log_in_at(self, realm: URL) -> bool:
        """True if the token service that the registry names may see the login. docs/decisions/0020 says why.

        Docker Hub, GitLab and Scaleway have theirs on other hosts than the registry. The cloud's key is the exception:
        it opens more than a registry, and is shown to Google alone.
        """
        if self._credentials is None:
            return False
        return self._credentials.named_by != CLOUD_KEY or is_google(realm.host or "")

    def _basic(self) -> str:
        assert self._credentials is not None
        login = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(login.encode()).decode()}"

    def _refused(self, scope: str, answer: Answer) -> ApplicationError:
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
