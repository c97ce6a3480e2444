"""Zone operations: the answer to a change, which the caller polls until it is DONE."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from sandbox.gce.errors import OperationError, not_found
from sandbox.gce.links import self_link

log = logging.getLogger(__name__)

PENDING_SECONDS = 0.5
"""How long an operation is PENDING, in emulated seconds."""

_PACIFIC = timezone(timedelta(hours=-8))
"""The service writes its timestamps in Pacific time, an offset that clients have to understand."""


@dataclass(frozen=True)
class Target:
    """The resource that an operation changes."""

    project: str
    zone: str
    path: str
    """The path from ``projects/`` on."""
    id: int


class Operation:
    """One operation in a zone; ``resource`` is what the API shows."""

    def __init__(self, kind: str, target: Target, *, prefix: str) -> None:
        stamp = f"{time.time_ns() // 1_000_000}-{secrets.token_hex(6)}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        zone_path = f"projects/{target.project}/zones/{target.zone}"
        self.target = target
        self.name = f"{prefix}-{stamp}"
        self.finished = asyncio.Event()
        self.resource: dict[str, Any] = {
            "kind": "compute#operation",
            "id": str(numeric_id()),
            "name": self.name,
            "zone": self_link(zone_path),
            "operationType": kind,
            "targetLink": self_link(target.path),
            "targetId": str(target.id),
            "status": "PENDING",
            "user": "outlast@sandbox.iam.gserviceaccount.com",
            "progress": 0,
            "insertTime": timestamp(),
            "selfLink": self_link(f"{zone_path}/operations/{self.name}"),
        }

    def begin(self) -> None:
        """Turn from PENDING to RUNNING."""
        self.resource |= {"status": "RUNNING", "startTime": timestamp()}

    def finish(self, error: OperationError | None = None) -> None:
        """Become DONE, with or without an error."""
        self.resource.setdefault("startTime", timestamp())
        self.resource |= {"status": "DONE", "progress": 100, "endTime": timestamp()}
        if error:
            self.resource |= error.resource_fields()
        self.finished.set()


class Operations:
    """All operations of the emulated cloud, and the request ids that make calls idempotent."""

    def __init__(self, scaled: Callable[[float], float]) -> None:
        self._scaled = scaled
        self._operations: dict[tuple[str, str, str], Operation] = {}
        self._by_request: dict[tuple[str, str], Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of_request(self, project: str, request_id: str | None) -> Operation | None:
        """Return the operation that this request id has already started, None if it has started none."""
        return self._by_request.get((project, request_id)) if request_id else None

    def start(
        self, kind: str, target: Target, work: Callable[[], Awaitable[None]], request_id: str | None = None
    ) -> Operation:
        """Begin ``kind`` on ``target``: PENDING for a moment, RUNNING while ``work`` runs, then DONE.

        ``work`` raises OperationError for a failure that the operation has to report.
        """
        operation = self._record(Operation(kind, target, prefix="operation"))
        if request_id:
            self._by_request[target.project, request_id] = operation
            operation.resource["clientOperationId"] = request_id
        task = asyncio.create_task(self._run(operation, work), name=operation.name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation

    def system_event(self, kind: str, target: Target, message: str) -> Operation:
        """Record something that the cloud did by itself: an operation that is DONE from the start."""
        operation = self._record(Operation(kind, target, prefix="systemevent"))
        operation.resource |= {"user": "system", "statusMessage": message}
        operation.finish()
        return operation

    def get(self, project: str, zone: str, name: str) -> Operation:
        """Return an operation by its name.

        Raises:
            ApiError: 404.
        """
        operation = self._operations.get((project, zone, name))
        if operation is None:
            raise not_found(f"projects/{project}/zones/{zone}/operations/{name}")
        return operation

    def in_zone(self, project: str, zone: str) -> list[dict[str, Any]]:
        """Return all operations of a zone, as resources."""
        return [o.resource for o in self._operations.values() if (o.target.project, o.target.zone) == (project, zone)]

    async def close(self) -> None:
        """Give up what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, operation: Operation, work: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(self._scaled(PENDING_SECONDS))
        operation.begin()
        try:
            await work()
        except OperationError as error:
            operation.finish(error)
        except Exception as error:
            log.exception("operation %s (%s) failed", operation.name, operation.resource["operationType"])
            message = f"Internal error. Please try again or contact Google Support. (Code: '{error}')"
            operation.finish(OperationError("INTERNAL_ERROR", message, 500, reason="internalError", details=[]))
        else:
            operation.finish()

    def _record(self, operation: Operation) -> Operation:
        self._operations[operation.target.project, operation.target.zone, operation.name] = operation
        return operation


def timestamp() -> str:
    """Return the time in RFC 3339 with milliseconds, as resources show it."""
    return datetime.now(_PACIFIC).isoformat(timespec="milliseconds")


def numeric_id() -> int:
    """Make up a resource id: unsigned 64 bit on the wire, about 19 digits."""
    return secrets.randbelow(9 * 10**18) + 10**18
