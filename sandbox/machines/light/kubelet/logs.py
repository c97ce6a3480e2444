"""Container logs: files in the CRI's format, and how they are read for ``kubectl logs``.

A line of a file is ``<RFC 3339 time> stdout F <text>``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

POLL_SECONDS = 0.2


class ContainerLog:
    """The log of one run of a container."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.path = path

    def write(self, line: str) -> None:
        """Append a line with the current time."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        with self.path.open("a") as file:
            file.write(f"{now} stdout F {line}\n")


@dataclass(frozen=True)
class LogOptions:
    """The options of PodLogOptions that concern one file."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None

    @classmethod
    def from_query(cls, query: dict[str, str]) -> LogOptions:
        """Read the options from a request's query.

        Raises:
            ValueError: an option is malformed.
        """
        since = None
        if "sinceSeconds" in query:
            since = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
        elif "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"])
        return cls(
            follow=query.get("follow") == "true",
            timestamps=query.get("timestamps") == "true",
            tail_lines=int(query["tailLines"]) if "tailLines" in query else None,
            since=since,
            limit_bytes=int(query["limitBytes"]) if "limitBytes" in query else None,
        )


async def read_log(path: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncGenerator[bytes]:
    """Yield the lines of a log file and, if it is followed, new ones until the container has ended."""
    left = options.limit_bytes
    with path.open() as file:
        lines = [line for line in file if options.since is None or _time(line) >= options.since]
        if options.tail_lines is not None:
            lines = lines[max(0, len(lines) - options.tail_lines) :]
        while True:
            if chunk := "".join(_shown(line, options.timestamps) for line in lines).encode()[:left]:
                yield chunk
            if left is not None:
                left -= len(chunk)
                if left == 0:
                    return
            over = not options.follow or ended()
            lines = file.readlines() if options.follow else []
            if over and not lines:
                return
            if not lines:
                await asyncio.sleep(POLL_SECONDS)


def _shown(line: str, timestamps: bool) -> str:
    stamp, _, _, text = line.split(" ", 3)
    return f"{stamp} {text}" if timestamps else text


def _time(line: str) -> datetime:
    return datetime.fromisoformat(line.partition(" ")[0])
