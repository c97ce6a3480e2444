"""The first process of a run takes down what an interrupted run has left (on Linux: it reads /proc).

Clouds have sessions of their own, and the processes that would take them down may be killed before they can.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sandbox.processes import OWNER

REPOSITORY = Path(__file__).parents[1]
ENDING_SECONDS = 5.0  # for processes that have been told to end
DOWN_SECONDS = 150


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Take down what is left when all other processes of the run are gone."""
    if hasattr(config, "workerinput"):
        return
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    base, deadline = factory.getbasetemp(), time.monotonic() + ENDING_SECONDS
    while (left := _state_dirs(base)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for state_dir in sorted(left):
        print(f"left up by this run: {state_dir}", flush=True)
        subprocess.run(
            [sys.executable, "-m", "sandbox", "--state", state_dir, "down"],
            cwd=REPOSITORY, timeout=DOWN_SECONDS, check=True,
        )  # fmt: skip


def _state_dirs(base: Path) -> set[Path]:
    """List folders below ``base`` with a process that lives: the sandbox by its command line, its children by their
    mark.
    """
    found: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            words = (process / "cmdline").read_bytes().split(b"\0")
            found |= {_path(value) for word, value in pairwise(words) if word == b"--state"}
            marks = (process / "environ").read_bytes().split(b"\0")
            found |= {_path(mark.partition(b"=")[2]) for mark in marks if mark.startswith(f"{OWNER}=".encode())}
    return {each for each in found if each.is_relative_to(base)}


def _path(raw: bytes) -> Path:
    return Path(os.fsdecode(raw))
