"""The ``temporal`` CLI on a client's server, as a person uses it."""

import asyncio
from pathlib import Path

from temporalio.client import Client


class Cli:
    """Runs one command after the other, each within a deadline."""

    DEADLINE = 120.0  # seconds; a request is answered after thirty at the latest

    def __init__(self, executable: Path, client: Client) -> None:
        self._executable = executable
        self._where = ("--address", client.service_client.config.target_host, "--namespace", client.namespace)

    async def run(self, *arguments: str) -> str:
        """Run a command and return what it printed. The test fails if the command does."""
        code, out, err = await self._call(arguments)
        assert code == 0, f"temporal {' '.join(arguments)}: {err or out}"
        return out

    async def exit_code(self, *arguments: str) -> int:
        """Run a command and return its exit code."""
        return (await self._call(arguments))[0]

    async def refused(self, *arguments: str) -> str:
        """Run a command that has to fail, and return what it printed."""
        code, out, err = await self._call(arguments)
        assert code != 0, f"temporal {' '.join(arguments)}: {out}"
        return err or out

    async def _call(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            str(self._executable), *arguments, *self._where,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), self.DEADLINE)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()
