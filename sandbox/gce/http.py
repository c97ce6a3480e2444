"""The HTTP side of the emulator: routes, permissions, parameters and error bodies, common to all methods."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web
from google.cloud import compute_v1

from sandbox.gce.catalog import REGIONS, ZONES
from sandbox.gce.errors import ApiError, bad_payload, invalid_field, not_found
from sandbox.gce.faults import Faults
from sandbox.gce.messages import known_fields, parse

log = logging.getLogger(__name__)

_COMMON_PARAMETERS = frozenset(
    {"$alt", "$fields", "$prettyPrint", "alt", "fields", "key", "prettyPrint", "quotaUser"}
) | {"returnPartialSuccess"}
_PROJECT = re.compile(r"[a-z][-a-z0-9]{2,28}[a-z0-9]")
"""The parameters that every Google API takes, and one that gcloud always sends."""


@dataclass(frozen=True)
class Call:
    """One request: where it goes (``path``), its parameters and its body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    @property
    def project(self) -> str:
        """The project's id."""
        return self.path["project"]

    @property
    def zone(self) -> str:
        """The zone's name."""
        return self.path["zone"]

    @property
    def request_id(self) -> str | None:
        """The UUID that makes the call idempotent.

        Raises:
            ApiError: 400; it is not a valid UUID, or it is zero.
        """
        text = self.query.get("requestId")
        if not text:
            return None
        try:
            valid = UUID(text).int != 0
        except ValueError:
            valid = False
        if not valid:
            raise invalid_field("requestId", text, "Must be a valid UUID other than zero.")
        return text

    def message(self, message_type: Any) -> dict[str, Any]:
        """Parse the body as a ``message_type``."""
        return parse(message_type, self.body)


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Route:
    """One method of the API.

    ``permission`` is what the caller needs, without ``compute.``. ``request`` names Google's request message (without
    ``Request``), whose fields are the known parameters.
    """

    method: str
    path: str
    handler: Handler
    permission: str
    request: str


def add_routes(app: web.Application, prefix: str, routes: list[Route], faults: Faults) -> None:
    """Serve ``routes`` under ``prefix``."""
    for route in routes:
        app.router.add_route(route.method, prefix + route.path, _serve(route, faults))


def _serve(route: Route, faults: Faults) -> Callable[[web.Request], Awaitable[web.Response]]:
    parameters = known_fields(getattr(compute_v1, f"{route.request}Request")) | _COMMON_PARAMETERS

    async def serve(request: web.Request) -> web.Response:
        call = Call(dict(request.match_info), dict(request.query), await request.read())
        faults.check_availability()
        faults.check_credentials()
        _check_path(call.path, is_itself=route.path.endswith(("/zones/{zone}", "/regions/{region}")))
        faults.check_permission(f"compute.{route.permission}", _resource(call.path))
        if unknown := call.query.keys() - parameters:
            raise bad_payload(f'Unknown name "{min(unknown)}": Cannot bind query parameter.')
        return answer(await route.handler(call))

    return serve


@web.middleware
async def error_bodies(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn errors into the JSON bodies that Google's clients read."""
    try:
        return await handler(request)
    except ApiError as error:
        log.info("%s %s → %d %s", request.method, request.path, error.status, error.message)
        return answer(error.body(), error.status)
    except web.HTTPException as error:
        return answer(ApiError(error.status, "notFound", f"{error.reason}: {request.path}").body(), error.status)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return answer(ApiError(500, "internalError", "Internal error encountered.").body(), 500)


def answer(content: dict[str, Any], status: int = 200) -> web.Response:
    """Make a JSON answer. Headers and body leave in one write, so that no client waits for a delayed ACK."""
    return web.Response(body=json.dumps(content, indent=1).encode(), status=status, content_type="application/json")


def _check_path(path: Mapping[str, str], *, is_itself: bool) -> None:
    """Refuse projects, zones and regions that do not exist. ``is_itself`` if the zone or region itself is requested."""
    project = path.get("project", "")
    if not _PROJECT.fullmatch(project):
        raise not_found(f"projects/{project}")
    for kind, known in (("zone", ZONES), ("region", REGIONS)):
        if (name := path.get(kind)) is None or name in known:
            continue
        if is_itself:
            raise not_found(f"projects/{project}/{kind}s/{name}")
        raise invalid_field(kind, name, f"Unknown {kind}.")


def _resource(path: Mapping[str, str]) -> str:
    """Return the resource that a refused permission is about: the VM if there is one, else the project."""
    if "zone" in path and "instance" in path:
        return f"projects/{path['project']}/zones/{path['zone']}/instances/{path['instance']}"
    return f"projects/{path['project']}"
