"""A benchmark that is told to end leaves nothing of its sandbox up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import leftovers
from tests.e2e.rig import REPOSITORY, why_not

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
if reason := why_not():
    pytestmark.append(pytest.mark.skip(reason=reason))


@pytest.mark.parametrize("bench", [("tests.bench.notice",), ("tests.bench.crowd", "2")], ids=["notice", "crowd"])
def test_terminated_on_its_way_up_it_takes_down_what_stands(
    executables: Any, tmp_path: Path, bench: tuple[str, ...]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", *bench], cwd=REPOSITORY, env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 400
    while not (states := list(tmp_path.glob("outlast-bench-*/cloud"))) or len(leftovers(states[0])) < 2:
        assert process.poll() is None
        assert time.monotonic() < end, "the sandbox is not seen to come up"
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=400)
    assert said.endswith("not measured: terminated\n")
    assert process.returncode == 1
    assert leftovers(states[0]) == []
    assert list(tmp_path.iterdir()) == []
