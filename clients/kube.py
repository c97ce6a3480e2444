"""Kubernetes objects as plain JSON, over the official async client.

The client's typed models cost a conversion each way and drop what they do not know, and its informer cannot follow
custom objects. Here objects are as the API server sends them. Paths are the API's own, for example
``/api/v1/nodes/NAME``.
"""

import json
import os
import re
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from urllib.request import getproxies_environment

from aiohttp import AddrInfoType, ClientResponse, ClientTimeout, TCPConnector
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from api.names import is_segment, shown
from clients.turns import Call, Turns

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

PAGE = 250  # objects in one answer to a list: of Nodes some 5 MB, of which each process keeps little
CONNECT_SECONDS = 10.0  # time for a watch's connection to be made
IDLE_SECONDS = 75.0
"""Seconds for which a connection is kept without a call, because the next one would begin with a TLS handshake. The API
server closes it after ninety."""
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
"""Seconds of silence, seconds between probes, and probes without an answer, after which a connection counts as broken.
An API server whose node lost its power says no goodbye, and a notice comes over a watch that is silent most of the
time."""


class KubeError(Exception):
    """The API server refused a call.

    Attributes:
        status: the HTTP status, for example 409.
        reason: the machine-readable reason, for example ``AlreadyExists``; empty if there is none.
        causes: further reasons that the server gives, for example ``NamespaceTerminating``.
        message: what the server says, in one line.
    """

    def __init__(self, status: int, said: Json) -> None:
        """Read the answer ``said``, which is a ``Status`` if the API server itself gave it."""
        self.status = status
        self.reason: str = said.get("reason") or ""
        self.causes = [cause.get("reason", "") for cause in (said.get("details") or {}).get("causes") or []]
        self.message: str = said.get("message") or f"refused with {status}"
        super().__init__(f"Kubernetes API: {self.message}")


async def connect(kubeconfig: str | None = None, context: str | None = None) -> "Kube":
    """Connect with ``kubeconfig``, else ``$KUBECONFIG``, else the pod's service account, else ``~/.kube/config``.

    ``context`` is one of a kubeconfig's contexts; None is its current one.

    Raises:
        ConnectionError: none of these says how to reach an API server.
    """
    configuration = Configuration()
    named = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(config_file=named, context=context, client_configuration=configuration)
    except ConfigException as error:
        raise ConnectionError(f"no way to reach Kubernetes: {error}; set KUBECONFIG or run in a pod") from error
    # Otherwise each call looks for a password in ~/.netrc, in another thread. It is of use to proxies only.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies_environment())}
    client = ApiClient(configuration)
    rest = client.rest_client  # which is asked for its connector at the first call
    rest._create_connector = lambda: TCPConnector(
        limit=rest.maxsize, ssl=rest.ssl_context, socket_factory=_socket, keepalive_timeout=IDLE_SECONDS
    )
    return Kube(client)


def _socket(address: AddrInfoType) -> socket.socket:
    """Make a socket whose connection the kernel probes while nothing is heard."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # all on Linux, few elsewhere
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


class UnsafeNameError(KubeError):
    """A name would have led somewhere else, so the call was not made. To callers it is a refusal with 400.

    >>> path("v1", "secrets", "team-a", "../../kube-system/secrets/db")
    UnsafeNameError: Kubernetes API: '../../kube-system/secrets/db' is not the name of an object
    """

    def __init__(self, name: object, what: str = "is not the name of an object") -> None:
        super().__init__(400, {"reason": "BadRequest", "message": f"{shown(name)} {what}"})


def path(
    api_version: str, plural: str, namespace: str | None = None, name: str | None = None, sub: str | None = None
) -> str:
    """Build the path of a collection or an object: ``path("batch/v1", "jobs", "default", "a", "status")``.

    Every part is checked, whatever its source: this is the only place in which paths are made. None stands for a part
    that the path does not have. An empty name is refused, because the path would be that of all objects.

    Raises:
        UnsafeNameError: a part is not exactly one segment of the path.
    """
    group = api_version.split("/")
    parts = [*group, *(["namespaces", namespace] if namespace is not None else []), plural]
    parts += [part for part in (name, sub) if part is not None]
    for part in parts:
        if not is_segment(part):
            raise UnsafeNameError(part)
    if len(group) > 2:
        raise UnsafeNameError(api_version, "is not an API version")
    return "/".join(["", "api" if api_version == "v1" else "apis", *parts])


def selector(wanted: Mapping[str, str | None]) -> str:
    """Select objects that have all these labels, or fields: ``{"app": "a", "tier": None}`` → ``app=a,tier``.

    None stands for any value.

    Raises:
        UnsafeNameError: a key or a value would change the condition.
    """
    for key, value in wanted.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value or ""):
            raise UnsafeNameError(f"{key}={value}", "is not a label")
    return ",".join(key if value is None else f"{key}={value}" for key, value in wanted.items())


_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9._-]{1,63}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9._-]{0,253}")  # names of nodes are longer than labels

FIRST_NAMESPACE = path("v1", "namespaces", name="kube-system")
"""Its UID identifies a cluster; without the right to read it no part of Outlast starts."""


class Kube:
    """The API server. Every call but ``follow`` ends after ``timeout`` seconds, well before an activity has to.

    All methods raise :class:`KubeError` for an answer other than 2xx, and ``aiohttp.ClientError`` or
    ``TimeoutError`` if there is no answer.
    """

    def __init__(self, client: ApiClient, timeout: float = 8) -> None:
        self._client = client
        self._timeout = ClientTimeout(total=timeout)
        self._shared = Turns(self._find_shared)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, path: str, **query: Any) -> Json:
        """Read one object, or a page of a collection."""
        return await self._call("GET", path, query)

    async def find(self, path: str) -> Json | None:
        """Read one object; None if it does not exist."""
        try:
            return await self.get(path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def shared(self, path: str) -> Json | None:
        """Read one object as ``find`` does, together with all who ask for it at the same time.

        All get the same one, so nobody may change it. It is never older than the question.
        """
        return await self._shared.ask(path, None)

    async def _find_shared(self, path: str, calls: list[Call[None, Json | None]]) -> None:
        found = await self.find(path)
        for call in calls:
            call.succeed(found)

    async def pages(self, path: str, **query: Any) -> AsyncGenerator[tuple[list[Json], str], None]:
        """Read a collection page by page, so that it need not be in memory as a whole.

        Yields:
            Each page, with the resourceVersion from which to follow the collection.
        """
        token = ""
        while True:
            page = await self.get(path, limit=PAGE, **({"continue": token} if token else {}), **query)
            token = page["metadata"].get("continue", "")
            yield page["items"], page["metadata"]["resourceVersion"]
            if not token:
                return

    async def each(self, path: str, **query: Any) -> AsyncGenerator[Json, None]:
        """Read the objects of a collection one after the other, of which only a page is in memory at a time."""
        async with aclosing(self.pages(path, **query)) as pages:
            async for items, _ in pages:
                for item in items:
                    yield item

    async def some(self, path: str, at_most: int, **query: Any) -> list[Json]:
        """Read at most so many objects of a collection, for collections that others may fill."""
        page = await self.get(path, limit=at_most, **query)
        return list(page["items"])

    async def list(self, path: str, **query: Any) -> list[Json]:
        """Read all objects of a collection; ``labelSelector`` and ``fieldSelector`` narrow it."""
        return [item async for item in self.each(path, **query)]

    async def follow(
        self,
        path: str,
        version: str,
        *,
        lasts: float,
        silence: float,
        opened: Callable[[], None] = lambda: None,
        **query: Any,
    ) -> AsyncGenerator[Json, None]:
        """Follow a collection's events, bookmarks included, from ``version`` on, for ``lasts`` seconds.

        ``opened`` is called once the server has answered: the first event may come a minute later.

        Raises:
            TimeoutError: nothing came for ``silence`` seconds, which bookmarks rule out on a working connection.
        """
        query |= {"watch": True, "allowWatchBookmarks": True}
        query |= {"resourceVersion": version, "timeoutSeconds": max(1, round(lasts))}
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        response = await self._request("GET", path, query, timeout)
        opened()
        try:
            async for line in response.content:
                event: Json = json.loads(line)
                if event["type"] == "ERROR":
                    raise KubeError(event["object"].get("code", 500), event["object"])
                yield event
        finally:
            response.close()

    async def create(self, path: str, body: Json, **query: Any) -> Json:
        """Create an object in the collection ``path``."""
        return await self._call("POST", path, query, body)

    async def patch(self, path: str, body: Json, content_type: str = MERGE_PATCH, **query: Any) -> Json:
        """Patch an object; a resourceVersion in the body restricts it to that version (else 409).

        With ``APPLY_PATCH`` the query needs ``fieldManager``.
        """
        return await self._call("PATCH", path, query, body, content_type)

    async def rewrite(self, path: str, found: Json, change: Json) -> bool:
        """Patch an object as it was ``found``, once; False if it was changed or deleted since.

        ``change`` is a merge patch, to which the resourceVersion is added. ``clients.changes`` repeats it.
        """
        try:
            await self.patch(path, of_version(found, change))
        except KubeError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def apply(self, path: str, body: Json, manager: str) -> Json:
        """Apply server-side as the field manager ``manager``, which takes over fields that others own.

        Creates an object that does not exist, except through a subresource, for which the server answers 404.
        """
        return await self.patch(path, body, APPLY_PATCH, fieldManager=manager, force=True)

    async def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        grace: int | None = None,
        propagation: str | None = None,
    ) -> bool:
        """Delete an object; False if it did not exist.

        With ``uid`` an object of another UID is left alone, with ``version`` one that was changed since: 409.
        """
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {"uid": uid, "resourceVersion": version}
        if any(preconditions.values()):
            options["preconditions"] = {key: value for key, value in preconditions.items() if value is not None}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation is not None:
            options["propagationPolicy"] = propagation
        try:
            await self._call("DELETE", path, {}, options)
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def stream(self, path: str, *, lasts: float, **query: Any) -> AsyncGenerator[bytes, None]:
        """Read the raw body of an answer in pieces, for example of a pod's log that is too long for the memory.

        Raises:
            TimeoutError: it took longer than ``lasts`` seconds.
        """
        response = await self._request("GET", path, query, ClientTimeout(total=lasts))
        try:
            async for piece in response.content.iter_chunked(2**16):
                yield piece
        finally:
            response.close()

    async def _call(
        self, method: str, path: str, query: Json, body: Json | None = None, content_type: str = "application/json"
    ) -> Json:
        answer: Json = json.loads(await self._read(method, path, query, body, content_type))
        return answer

    async def _read(
        self, method: str, path: str, query: Json, body: Json | None = None, content_type: str = "application/json"
    ) -> bytes:
        try:
            return await (await self._request(method, path, query, self._timeout, body, content_type)).read()
        except TimeoutError as error:
            raise TimeoutError(f"Kubernetes API: {method} {path}: no answer in {self._timeout.total:g} s") from error

    async def _request(
        self,
        method: str,
        path: str,
        query: Json,
        timeout: ClientTimeout,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> ClientResponse:
        if not path.startswith("/") or not all(map(is_segment, path[1:].split("/"))):
            raise UnsafeNameError(path, "is not a path of the API")  # it did not come from path()
        parts = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=[(name, _text(value)) for name, value in query.items()],
            header_params={"Accept": "*/*", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        response: ClientResponse = (await self._client.call_api(*parts, _request_timeout=timeout)).response
        if 200 <= response.status < 300:
            return response
        said = _status_in(await response.read()) or {"message": f"{response.status} {response.reason}"}
        raise KubeError(response.status, said)


def of_version(found: Json, patch: Json) -> Json:
    """Restrict a merge patch to the object as it was ``found``: one that was changed or replaced since is refused."""
    version = {"resourceVersion": found["metadata"]["resourceVersion"]}
    return {**patch, "metadata": {**patch.get("metadata", {}), **version}}


def _status_in(body: bytes) -> Json:
    """Read the ``Status`` of a refusal; empty if something between us and the API server refused."""
    try:
        status = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
