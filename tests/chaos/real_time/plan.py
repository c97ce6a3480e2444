"""Which calls a worker's process does not outlive, and which events and messages a bridge's does not; and all calls.

Points are not listed anywhere: each call is one, in three modes, and those come first that were not hit yet in this
session. A new activity is hit in the first run that calls it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

DIRECTORY = "OUTLAST_CHAOS"
"""The environment variable that names the plan's directory."""

ENDED = 9
"""The exit code of a process that was ended at a point."""

MODES = ("before", "after", "twice")
"""The process ends before the call, or after its effect and before its result is known; or the call is made twice."""

LATER = 4
"""After how many gaps a point is hit again."""


@dataclass(frozen=True)
class Call:
    """One call of an activity by the worker, in any of its processes; for the bridge, an event or a message."""

    run: int
    activity: str
    mode: str | None


class Plan:
    """The calls of a session, in a directory that the processes of the worker share one after the other."""

    def __init__(self, directory: Path) -> None:
        self._orders = directory / "orders.json"
        self._calls = directory / "calls.jsonl"
        self._hits = Counter((call.activity, call.mode) for call in self.calls() if call.mode)
        self._since = len(self.calls())
        for number, call in enumerate(reversed(self.calls())):
            if call.mode:
                self._since = number
                break

    def order(self, run: int, gap: int) -> None:
        """Hit at most one point in ``gap`` calls from now on; none if it is 0."""
        self._orders.write_text(json.dumps({"run": run, "gap": gap}))

    def calls(self) -> list[Call]:
        """List all calls, in order."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [Call(**json.loads(line)) for line in lines]

    def next(self, activity: str) -> Call:
        """Write down a call, with what is to happen at it, before it does."""
        orders = json.loads(self._orders.read_text()) if self._orders.exists() else {"run": 0, "gap": 0}
        call = Call(orders["run"], activity, self._mode(activity, orders["gap"]))
        self._since = 0 if call.mode else self._since + 1
        self._hits[activity, call.mode] += 1
        with self._calls.open("a") as file:
            file.write(json.dumps(asdict(call)) + "\n")
        return call

    def _mode(self, activity: str, gap: int) -> str | None:
        if gap <= 0 or self._since < gap:
            return None
        mode = min(MODES, key=lambda each: self._hits[activity, each])
        return mode if not self._hits[activity, mode] or self._since >= LATER * gap else None
