"""Kubernetes objects as plain JSON over the official async client: read, patch, list, follow.

The client's own informer cannot do custom objects and asks for no bookmarks; typed models drop what they do not know.
"""

import json
import os
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import ClientTimeout
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

Json = dict[str, Any]

PAGE = 500  # objects in one answer to a list


class KubeError(Exception):
    """The API server refused a call, in its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def connect() -> "Kube":
    """Connect by ``$KUBECONFIG``, else by the pod's service account, else by ``~/.kube/config``.

    Raises:
        ConfigException: none of these says how to reach an API server.
    """
    configuration = Configuration()
    named = os.environ.get("KUBECONFIG")
    try:
        if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(config_file=named, client_configuration=configuration)
    except ConfigException as error:
        raise ConfigException(f"no way to Kubernetes: {error}; set KUBECONFIG or run in a pod") from error
    return Kube(ApiClient(configuration))


class Kube:
    """The API server. Calls end after ``timeout`` seconds.

    All methods raise :class:`KubeError` for an answer other than 2xx, and ``aiohttp.ClientError`` or
    ``TimeoutError`` where there is none.
    """

    def __init__(self, client: ApiClient, timeout: float = 10) -> None:
        self._client = client
        self._timeout = ClientTimeout(total=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, path: str, **query: Any) -> Json:
        """Read an object or a page of a list."""
        return await self._call("GET", path, query)

    async def merge_patch(self, path: str, body: Json) -> Json:
        """Patch an object; with a resourceVersion in the body only that version of it (else 409)."""
        return await self._call("PATCH", path, {}, body, "application/merge-patch+json")

    async def list(self, path: str, **query: Any) -> tuple[list[Json], str]:
        """All objects of a collection and the resourceVersion from which to follow it."""
        items: list[Json] = []
        token = ""
        while True:
            page = await self.get(path, limit=PAGE, **({"continue": token} if token else {}), **query)
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def follow(
        self, path: str, version: str, *, lasts: float, silence: float, **query: Any
    ) -> AsyncGenerator[Json, None]:
        """Events of a collection from ``version`` on, bookmarks among them, for ``lasts`` seconds.

        Raises:
            TimeoutError: nothing was heard for ``silence`` seconds, which bookmarks rule out on a living connection.
        """
        query |= {"watch": "true", "allowWatchBookmarks": "true"}
        query |= {"resourceVersion": version, "timeoutSeconds": max(1, round(lasts))}
        timeout = ClientTimeout(total=None, sock_connect=10, sock_read=silence)
        response = await self._request("GET", path, query, timeout)
        try:
            async for line in response.content:
                event: Json = json.loads(line)
                if event["type"] == "ERROR":
                    raise KubeError(event["object"].get("code", 500), event["object"].get("message", "watch failed"))
                yield event
        finally:
            response.close()

    async def _call(
        self, method: str, path: str, query: Json, body: Json | None = None, content_type: str = "application/json"
    ) -> Json:
        response = await self._request(method, path, query, self._timeout, body, content_type)
        answer: Json = await response.json()
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        query: Json,
        timeout: ClientTimeout,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Any:
        parts = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=[(name, str(value)) for name, value in query.items()],
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = (await self._client.call_api(*parts, _request_timeout=timeout)).response
        if 200 <= response.status < 300:
            return response
        text = await response.text()
        raise KubeError(response.status, _message(text) or f"{response.status} {response.reason}")


def _message(text: str) -> str:
    """What the API server says in a Status, empty where it is none."""
    try:
        return str(json.loads(text)["message"])
    except (TypeError, ValueError, KeyError):
        return ""
