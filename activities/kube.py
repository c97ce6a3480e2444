"""Kubernetes objects as plain JSON, over the official async client: what all activities speak to the cluster with.

The typed models of the client cost a conversion each way and drop what they do not know; the activities work on
the objects as the API server sends them. Paths are the API's own, for example ``/api/v1/nodes/NAME``.
"""

import json
from typing import Any

from aiohttp import ClientTimeout
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

PAGE = 500  # objects in one answer to a list


class Kube:
    """The API server. Every call ends after ``timeout`` seconds, well before an activity's start-to-close.

    All methods raise :class:`kubernetes.aio.client.exceptions.ApiException` for an answer other than 2xx, and
    ``aiohttp.ClientError`` or ``TimeoutError`` where there is none.
    """

    def __init__(self, client: ApiClient, timeout: float = 8) -> None:
        self._client = client
        self._timeout = ClientTimeout(total=timeout)

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
        response = await self._client.call_api(*parts, _request_timeout=self._timeout)
        data: bytes = await response.read()
        if not 200 <= response.status < 300:
            raise ApiException(status=response.status, reason=response.reason, body=data.decode(errors="replace"))
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
