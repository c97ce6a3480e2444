"""A cgroup for each machine in every v1 hierarchy: made, never mounted, and removed with everything below it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from sandbox.machines.real.requirements import CGROUPS


def parent(state_dir: Path) -> str:
    """Return the name under which a sandbox keeps its machines' cgroups; it is the same after a crash."""
    return f"outlast-{hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]}"


def make(group: str) -> None:
    """Make ``group`` (such as outlast-1a2b3c4d/vm-1) in every hierarchy; a cpuset starts with its parent's CPUs."""
    for hierarchy in _hierarchies():
        place = hierarchy
        for part in group.split("/"):
            above, place = place, place / part
            place.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (place / file).exists():
                    (place / file).write_text((above / file).read_text())


def thaw(group: str) -> None:
    """Thaw the processes of ``group``: a machine that dies during a dump has frozen ones, which ignore SIGKILL."""
    for state in (CGROUPS / "freezer" / group).rglob("freezer.state"):
        with contextlib.suppress(OSError):
            state.write_text("THAWED")


def remove(group: str) -> None:
    """Remove ``group`` and everything below it, deepest first; a cgroup that still has a process stays."""
    for hierarchy in _hierarchies():
        for directory, _, _ in os.walk(hierarchy / group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _hierarchies() -> list[Path]:
    """Return the mounted hierarchies; some are links to others (cpu, cpuacct)."""
    if not CGROUPS.is_dir():
        return []  # no Linux
    return [entry for entry in CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink()]


def exists(group: str) -> bool:
    """True if anything of ``group`` is left."""
    return any((hierarchy / group).exists() for hierarchy in _hierarchies())
