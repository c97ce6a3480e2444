"""Kubernetes objects as plain JSON, over the official async client.

The typed models of the client cost a conversion each way and drop what they do not know, and its informer cannot follow
custom objects; here objects are as the API server sends them. Paths are the API's own, for example
``/api/v1/nodes/NAME``.
"""

import json
import os
import re
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientResponse, ClientTimeout
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from api.names import is_segment, shown

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

PAGE = 500  # objects in one answer to a list
CONNECT_SECONDS = 10.0  # until a watch's connection stands


class KubeError(Exception):
    """The API server refused a call.

    Attributes:
        status: the HTTP status, for example 409.
        reason: the machine-readable reason, for example ``AlreadyExists``; empty where there is none.
        causes: further reasons that the server gives, for example ``NamespaceTerminating``.
        message: what the server says, in one line.
    """

    def __init__(self, status: int, said: Json) -> None:
        """``said`` is the answer, a ``Status`` where the API server itself gave it."""
        self.status = status
        self.reason: str = said.get("reason") or ""
        self.causes = [cause.get("reason", "") for cause in (said.get("details") or {}).get("causes") or []]
        self.message: str = said.get("message") or f"refused with {status}"
        super().__init__(f"Kubernetes API: {self.message}")


async def connect(kubeconfig: str | None = None) -> "Kube":
    """Connect by ``kubeconfig``, else by ``$KUBECONFIG``, else by the pod's service account, else ``~/.kube/config``.

    Raises:
        ConnectionError: none of these says how to reach an API server.
    """
    configuration = Configuration()
    named = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(config_file=named, client_configuration=configuration)
    except ConfigException as error:
        raise ConnectionError(f"no way to reach Kubernetes: {error}; set KUBECONFIG or run in a pod") from error
    return Kube(ApiClient(configuration))


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
    """The path of a collection or an object: ``path("batch/v1", "jobs", "default", "a", "status")``.

    Every part is checked, whoever it comes from: this is the only place where paths are made. None is a part that the
    path does not have; an empty name is refused, because the path would be that of all objects.

    Raises:
        UnsafeNameError: a part is more than one segment of the path, or none.
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

    None is a label with any value.

    Raises:
        UnsafeNameError: a key or a value would be another condition.
    """
    for key, value in wanted.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value or ""):
            raise UnsafeNameError(f"{key}={value}", "is not a label")
    return ",".join(key if value is None else f"{key}={value}" for key, value in wanted.items())


_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9._-]{1,63}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9._-]{0,253}")  # names of nodes are longer than labels

FIRST_NAMESPACE = path("v1", "namespaces", name="kube-system")
"""Whose UID tells a cluster from all others; without the right to read it no part of Outlast begins."""


class Kube:
    """The API server. Every call but ``follow`` ends after ``timeout`` seconds, well before an activity has to.

    All methods raise :class:`KubeError` for an answer other than 2xx, and ``aiohttp.ClientError`` or
    ``TimeoutError`` where there is none.
    """

    def __init__(self, client: ApiClient, timeout: float = 8) -> None:
        self._client = client
        self._timeout = ClientTimeout(total=timeout)

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
        """Read one object, None where it is not there."""
        try:
            return await self.get(path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def snapshot(self, path: str, **query: Any) -> tuple[list[Json], str]:
        """All objects of a collection, page by page, and the resourceVersion from which to follow it."""
        items: list[Json] = []
        token = ""
        while True:
            page = await self.get(path, limit=PAGE, **({"continue": token} if token else {}), **query)
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def some(self, path: str, at_most: int, **query: Any) -> list[Json]:
        """Read at most so many objects of a collection, when others decide how many there are."""
        page = await self.get(path, limit=at_most, **query)
        return list(page["items"])

    async def list(self, path: str, **query: Any) -> list[Json]:
        """All objects of a collection; ``labelSelector`` and ``fieldSelector`` narrow it."""
        items, _ = await self.snapshot(path, **query)
        return items

    async def follow(
        self, path: str, version: str, *, lasts: float, silence: float, **query: Any
    ) -> AsyncGenerator[Json, None]:
        """Events of a collection from ``version`` on, bookmarks among them, for ``lasts`` seconds.

        Raises:
            TimeoutError: nothing was heard for ``silence`` seconds, which bookmarks rule out on a living connection.
        """
        query |= {"watch": True, "allowWatchBookmarks": True}
        query |= {"resourceVersion": version, "timeoutSeconds": max(1, round(lasts))}
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        response = await self._request("GET", path, query, timeout)
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
        """Patch an object; with a resourceVersion in the body only that version of it (else 409).

        With ``APPLY_PATCH`` the query needs ``fieldManager``.
        """
        return await self._call("PATCH", path, query, body, content_type)

    async def rewrite(self, path: str, found: Json, change: Json) -> bool:
        """Patch an object as it was ``found``; False if it was changed or deleted since: read it again.

        ``change`` is a merge patch; its metadata gets the resourceVersion.
        """
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            await self.patch(path, {**change, "metadata": {**change.get("metadata", {}), **version}})
        except KubeError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def apply(self, path: str, body: Json, manager: str) -> Json:
        """Server-side apply under the field manager ``manager``, which takes over fields that others own.

        Creates an object that is not there, except through a subresource, where the server answers 404.
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
        """Delete an object; False where it was gone.

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
        """Read the raw body of an answer in pieces, for example of a pod's log that is too long to be held in memory.

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


def _status_in(body: bytes) -> Json:
    """The ``Status`` that a refusal carries; empty where something between us and the API server refused."""
    try:
        status = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
