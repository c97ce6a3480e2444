"""Kubernetes objects as plain JSON, over the official async client: what all activities speak to the cluster with.

The typed models of the client cost a conversion each way and drop what they do not know; the activities work on
the objects as the API server sends them. Paths are the API's own, for example ``/api/v1/nodes/NAME``.
"""

import base64
import json
import os
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientTimeout
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from temporalio.exceptions import ApplicationError

from api import errors

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

PAGE = 500  # objects in one answer to a list

_TYPES = {400: errors.INVALID, 401: errors.PERMISSION, 403: errors.PERMISSION, 422: errors.INVALID}


class KubeError(ApplicationError, ApiException):  # type: ignore[misc] # ApiException comes untyped
    """The API server refused a call.

    An ``ApiException`` for who catches it, and an ``ApplicationError`` for the workflow where nobody does: its type
    is one of ``api.errors``, its message what the API server said.
    """

    def __init__(self, status: int, reason: str, body: str) -> None:
        said = ApiException(status=status, reason=reason, body=body)
        kind = _TYPES.get(status)
        ApplicationError.__init__(
            self,
            f"Kubernetes API: {message_of(said)}",
            type=kind or f"Kubernetes{reason_of(said)}",
            non_retryable=kind is not None,
        )
        # Last: ApplicationError passes its message on to the next class in line.
        ApiException.__init__(self, status=status, reason=reason, body=body)

    def __str__(self) -> str:
        return self.message


async def connect(kubeconfig: str | None = None) -> "Kube":
    """Connect by ``kubeconfig``, else by ``$KUBECONFIG``, else by the pod's service account, else ``~/.kube/config``.

    Raises:
        ConfigException: none of these says how to reach an API server.
    """
    configuration = Configuration()
    named = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(config_file=named, client_configuration=configuration)
    except ConfigException as error:
        raise ConfigException(f"no way to reach Kubernetes: {error}; set KUBECONFIG or run in a pod") from error
    return Kube(ApiClient(configuration))


def path(api_version: str, plural: str, namespace: str | None = None, name: str = "", sub: str = "") -> str:
    """The path of a collection or an object: ``path("batch/v1", "jobs", "default", "a", "status")``."""
    root = "/api" if api_version == "v1" else "/apis"
    parts = [root, api_version, *(["namespaces", namespace] if namespace else []), plural, name, sub]
    return "/".join(part for part in parts if part)


class Kube:
    """The API server. Every call ends after ``timeout`` seconds, well before an activity's start-to-close.

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
        """Read one object."""
        return await self._call("GET", path, query)

    async def find(self, path: str) -> Json | None:
        """Read one object, None where it is not there."""
        try:
            return await self.get(path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    async def list(self, path: str, **query: Any) -> list[Json]:
        """All objects of a collection, page by page; ``labelSelector`` and ``fieldSelector`` narrow it."""
        items: list[Json] = []
        token = ""
        while True:
            page = await self.get(path, limit=PAGE, **({"continue": token} if token else {}), **query)
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items

    async def create(self, path: str, body: Json, **query: Any) -> Json:
        """Create an object in the collection ``path``."""
        return await self._call("POST", path, query, body)

    async def patch(self, path: str, body: Json, content_type: str = MERGE_PATCH, **query: Any) -> Json:
        """Patch an object; with ``APPLY_PATCH`` the query needs ``fieldManager``."""
        return await self._call("PATCH", path, query, body, content_type)

    async def apply(self, path: str, body: Json, manager: str) -> Json:
        """Server-side apply under the field manager ``manager``, which takes over fields that others own.

        Creates an object that is not there, except through a subresource, where the server answers 404.
        """
        return await self.patch(path, body, APPLY_PATCH, fieldManager=manager, force=True)

    async def delete(
        self, path: str, *, uid: str | None = None, grace: int | None = None, propagation: str | None = None
    ) -> bool:
        """Delete an object; False where it was gone. With ``uid`` an object of another UID is left alone: 409."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation is not None:
            options["propagationPolicy"] = propagation
        try:
            await self._call("DELETE", path, {}, options)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    async def text(self, path: str, **query: Any) -> bytes:
        """The raw body of an answer, for example of a pod's log."""
        return await self._request("GET", path, query, None, None)

    async def read_secret(self, namespace: str, name: str) -> dict[str, str]:
        """The decoded entries of a Secret.

        Raises:
            ApplicationError: of type ``errors.MISSING`` where there is no such Secret.
        """
        found = await self.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if found is None:
            raise ApplicationError(
                f"Secret {namespace}/{name} does not exist: create it, or correct the reference to it",
                type=errors.MISSING,
                non_retryable=True,
            )
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    async def _call(
        self, method: str, path: str, query: Json, body: Json | None = None, content_type: str | None = None
    ) -> Json:
        answer: Json = json.loads(await self._request(method, path, query, body, content_type))
        return answer

    async def _request(self, method: str, path: str, query: Json, body: Json | None, content_type: str | None) -> bytes:
        parts = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=[(name, _text(value)) for name, value in query.items()],
            header_params={"Accept": "*/*", "Content-Type": content_type or "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._client.call_api(*parts, _request_timeout=self._timeout)
            data: bytes = await response.read()
        except TimeoutError as error:
            raise TimeoutError(f"Kubernetes API: {method} {path}: no answer in {self._timeout.total:g} s") from error
        if not 200 <= response.status < 300:
            raise KubeError(response.status, response.reason, data.decode(errors="replace"))
        return data


def reason_of(error: ApiException) -> str:
    """The machine-readable reason of a refused call, for example ``AlreadyExists``; empty where there is none."""
    try:
        return str(json.loads(error.body).get("reason", ""))
    except (TypeError, ValueError):
        return ""


def message_of(error: ApiException) -> str:
    """What the API server says, in one line."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
