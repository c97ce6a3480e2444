"""The worker's rights as its activities use them: each runs as its ServiceAccount, and its requests are noted.

So a missing right fails the test of the activity that needs it. A right that the whole suite has not used is one too
many: `tests/conftest.py` fails the run that has seen everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from aiohttp import ClientTimeout

from clients.kube import APPLY_PATCH, Kube

ROLES = Path(__file__).parents[2] / "deploy" / "base" / "worker-rbac.yaml"
NAMESPACE = "outlast-system"
ACCOUNT = "outlast-worker"
TESTS_SECONDS = 60  # for a call of the API server: here nobody tries it again if a busy machine takes long
_ACTING: ContextVar[bool] = ContextVar("acting", default=False)


class Right(NamedTuple):
    """A verb on a resource of a group, in any namespace."""

    verb: str
    group: str
    resource: str


USED: set[Right] = set()
# Used outside activities: the cluster's id, when the worker starts (tests/bridge/test_main.py).
ELSEWHERE = {Right("get", "", "namespaces")}


def granted() -> set[Right]:
    """List what the worker's roles grant."""
    rules = [rule for each in yaml.safe_load_all(ROLES.read_text()) for rule in each.get("rules", [])]
    return {
        Right(verb, group, resource)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@contextlib.contextmanager
def acting() -> Iterator[None]:
    """Count what is requested in here as an activity's requests."""
    token = _ACTING.set(True)
    try:
        yield
    finally:
        _ACTING.reset(token)


def acts() -> bool:
    """True if an activity asks."""
    return _ACTING.get()


class TwoFaced(Kube):
    """The administrator's client for the tests, and the worker's for its activities."""

    def __init__(self, admin: Kube, worker: Kube) -> None:
        super().__init__(worker._client)
        self._admin, self._worker = admin, worker
        admin._timeout = worker._timeout = ClientTimeout(total=TESTS_SECONDS)

    async def close(self) -> None:
        await self._admin.close()
        await self._worker.close()

    async def _read(self, method: str, path: str, query: Any, body: Any = None, content_type: str = "") -> bytes:
        given = (method, path, query, body, *filter(None, (content_type,)))
        if not acts():
            return await self._admin._read(*given)
        USED.update(rights(method, path, content_type))
        return await self._worker._read(*given)

    async def _request(self, method: str, path: str, query: Any, timeout: Any, *more: Any) -> Any:
        """Stream a request."""
        if not acts():
            return await self._admin._request(method, path, query, timeout, *more)
        USED.update(rights(method, path, "", watches=bool(query.get("watch"))))
        return await self._worker._request(method, path, query, timeout, *more)


def rights(method: str, path: str, content_type: str, *, watches: bool = False) -> Iterator[Right]:
    """List the rights that a request needs."""
    parts = path.strip("/").split("/")
    if parts == ["version"]:
        return  # which everybody may read
    group = "" if parts[0] == "api" else parts[1]
    rest = parts[2 if parts[0] == "api" else 3 :]
    if not rest:
        return  # what a group serves, which everybody may read
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    resource = "/".join([rest[0], *rest[2:3]])
    named = len(rest) > 1
    verbs = {"GET": "get" if named else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
    yield Right("watch" if watches else verbs[method], group, resource)
    if resource.endswith("/approval"):
        yield Right("approve", group, "signers")
    if content_type == APPLY_PATCH and "/" not in resource:
        yield Right("create", group, resource)


def claims_roles() -> list[Any]:
    """Make the role for claims and its binding, for a test's namespace instead of the installation's."""
    found = [each for each in yaml.safe_load_all(ROLES.read_text()) if each["metadata"]["name"].endswith("-claims")]
    return [{**each, "metadata": {"name": each["metadata"]["name"]}} for each in found]
