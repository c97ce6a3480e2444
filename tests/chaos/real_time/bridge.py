"""``python -m tests.chaos.real_time.bridge``: Outlast's bridge, whose process ends at the points of a plan.

The bridge itself is unchanged. A point is an event of a watch, or a message to Temporal: the process ends before it, or
after it and before its consequences, or it comes twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from clients.watch import Watch
from crd_bridge import __main__
from crd_bridge.temporal import Gateway
from tests.chaos.real_time.plan import DIRECTORY, ENDED, Plan

STATES = {"Ready", "Running", "Recovering", "Completed", "Failed"}
"""Conditions that distinguish events; each of the others would make a kind of its own."""


def main() -> int:
    """Run as ``python -m crd_bridge`` does."""
    plan = Plan(Path(os.environ[DIRECTORY]))
    _hear_by(plan)
    for name in ("signal", "start", "shut_down"):
        setattr(Gateway, name, _said_by(plan, name, getattr(Gateway, name)))
    return __main__.main()


def _hear_by(plan: Plan) -> None:
    tell = Watch._tell

    def told(self: Watch, key: str, item: Any, version: int) -> None:
        mode = plan.next(f"{self.resource.plural} {_state(item)}").mode
        if mode == "before":
            os._exit(ENDED)
        for _ in range(2 if mode == "twice" else 1):
            tell(self, key, item, version)
        if mode == "after":
            os._exit(ENDED)

    Watch._tell = told  # type: ignore[method-assign]


def _state(item: Any) -> str:
    """Name what distinguishes an event from those before: its object's phase, or that it is being deleted or gone."""
    if item is None:
        return "gone"
    if "deletionTimestamp" in item["metadata"]:
        return "going"
    status, taints = item.get("status") or {}, item.get("spec", {}).get("taints") or []
    phase = status.get("phase") or ", ".join(
        each["type"] for each in status.get("conditions") or [] if each["status"] == "True" and each["type"] in STATES
    )
    marked = " marked" if any(each["key"].endswith("/preempted") for each in taints) else ""
    return f"{phase or 'new'}{marked}"


def _said_by(plan: Plan, name: str, say: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def said(self: Gateway, *arguments: Any) -> Any:
        mode = plan.next(f"says {arguments[1] if name == 'signal' else name}").mode
        if mode == "before":
            os._exit(ENDED)
        result = await say(self, *arguments)
        if mode == "after":
            os._exit(ENDED)
        return await say(self, *arguments) if mode == "twice" else result

    return said


if __name__ == "__main__":
    sys.exit(main())
