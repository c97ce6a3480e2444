"""The ``temporal`` CLI, as a person uses it, on the server of a client."""

import asyncio
from pathlib import Path

from temporalio.client import Client


class Cli:
    """Runs one command after the other, each within its deadline."""

    DEADLINE = 20.0  # seconds

    def __init__(self, executable: Path, client: Client) -> None:
        self._executable = executable
        self._where = ("--address", client.service_client.config.target_host, "--namespace", client.namespace)

    async def run(self, *arguments: str) -> str:
        """What it printed; a test fails where the command does."""
        code, out, err = await self._call(arguments)
        assert code == 0, f"temporal {' '.join(arguments)}: {err or out}"
        return out

    async def exit_code(self, *arguments: str) -> int:
        """0 where the command did what it should."""
        return (await self._call(arguments))[0]

    async def _call(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            str(self._executable), *arguments, *self._where,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), self.DEADLINE)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()
