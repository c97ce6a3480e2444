"""A run of the tests that somebody interrupts leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from sandbox.processes import leftovers
from tests.leftovers import REPOSITORY

HELD_UP = """
import asyncio, pathlib
from sandbox.processes import Process

async def test_holds_up(tmp_path):
    await Process("sleeper", ["sleep", "1000"], pathlib.Path({state!r})).start()
    await asyncio.sleep(1000)
"""


async def test_an_interrupted_run_of_several_processes_leaves_none(tmp_path: Path) -> None:
    base = tmp_path / "base"
    state = base / "cloud"
    (tmp_path / "test_held_up.py").write_text(HELD_UP.format(state=str(state)))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-p", "tests.leftovers", "-n", "1", f"--rootdir={tmp_path}",
        "-o", "asyncio_mode=auto", f"--basetemp={base}", tmp_path / "test_held_up.py",
        cwd=REPOSITORY, env=outside, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        # In the background of a shell, SIGINT is ignored from one child to the next.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    async with asyncio.timeout(150):
        while not leftovers(state):
            assert run.returncode is None
            await asyncio.sleep(0.05)
    run.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(run.communicate(), 150)
    assert f"left up by this run: {state}" in said.decode()
    assert leftovers(state) == []
