"""How much a worker takes on at once: activities of each queue, workflow tasks, and workflows kept in memory."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

MEBIBYTE = 1 << 20
BASE = 256 * MEBIBYTE
"""What a worker needs before it keeps the first workflow: its libraries, connections and activities."""
CACHED = 384 * 1024
"""What one workflow is reckoned with: a job, as measured with 1,000 of them (docs/scaling.md). A VM takes less."""
UNLIMITED = 1024 * MEBIBYTE
"""The memory that a worker without a limit takes: that of ``deploy/base``."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""The files in which the kernel says which limit this process has, in cgroups of version 2 and 1."""


@dataclass(frozen=True)
class Room:
    """The numbers of one worker process."""

    prompt: int  # activities that are done at once
    long: int  # activities that mostly wait
    workflow_tasks: int
    cached_workflows: int
    sticky: timedelta  # for which a workflow's task waits for the worker that keeps the workflow


def cached_workflows(memory: int) -> int:
    """Compute how many workflows fit into so many bytes, with a quarter of it left for peaks."""
    return max(200, int((memory * 0.75 - BASE) / CACHED))


def memory_limit(files: tuple[Path, ...] = LIMITS) -> int:
    """Read the process's memory limit, in bytes."""
    for file in files:
        try:
            limit = int(file.read_text())
        except (OSError, ValueError):  # no such version of cgroups, or "max"
            continue
        if limit < 1 << 50:  # version 1 writes "no limit" as a number of petabytes
            return limit
    return UNLIMITED
