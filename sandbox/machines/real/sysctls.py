"""What a kubelet sets on the whole machine that it runs on: remembered in a file before, put back afterwards."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

_SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
_FILE = "sysctls.json"


def remember(state_dir: Path) -> None:
    """Note what is set, unless a crashed sandbox has noted it before its own kubelets set something else."""
    file = state_dir / _FILE
    if not file.exists():
        file.write_text(json.dumps({name: Path("/proc/sys", name).read_text().strip() for name in _SYSCTLS}))


def put_back(state_dir: Path) -> None:
    """Set again what was noted."""
    with contextlib.suppress(FileNotFoundError):
        for name, value in json.loads((state_dir / _FILE).read_text()).items():
            Path("/proc/sys", name).write_text(value)
        (state_dir / _FILE).unlink()
