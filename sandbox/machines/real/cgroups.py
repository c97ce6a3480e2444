"""A cgroup for each machine in every v1 hierarchy: made, never mounted, and removed with all that is below."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from sandbox.machines.real.requirements import CGROUPS


def parent(state_dir: Path) -> str:
    """The name, the same after a crash, under which a sandbox keeps its machines' cgroups."""
    return f"outlast-{hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]}"


def make(group: str) -> None:
    """Make `group` (such as outlast-1a2b3c4d/vm-1) in every hierarchy; a cpuset begins with its parent's processors."""
    for hierarchy in _hierarchies():
        place = hierarchy
        for part in group.split("/"):
            above, place = place, place / part
            place.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (place / file).exists():
                    (place / file).write_text((above / file).read_text())


def thaw(group: str) -> None:
    """Let frozen processes of `group` go: one that is being dumped when its machine dies does not hear a SIGKILL."""
    for state in (CGROUPS / "freezer" / group).rglob("freezer.state"):
        with contextlib.suppress(OSError):
            state.write_text("THAWED")


def remove(group: str) -> None:
    """Remove `group` and what is below, deepest first; what still holds a process stays."""
    for hierarchy in _hierarchies():
        for directory, _, _ in os.walk(hierarchy / group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _hierarchies() -> list[Path]:
    """The mounted hierarchies; some are links to others (cpu, cpuacct)."""
    if not CGROUPS.is_dir():
        return []  # no Linux
    return [entry for entry in CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink()]


def exists(group: str) -> bool:
    """Whether anything of `group` is left."""
    return any((hierarchy / group).exists() for hierarchy in _hierarchies())
