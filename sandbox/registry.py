"""A real OCI registry (go-containerregistry's), on 127.0.0.1, without authentication, its images in memory."""

from __future__ import annotations

import aiohttp

from sandbox.binaries import Binaries
from sandbox.processes import Process, free_port
from sandbox.settings import Settings


class Registry:
    """One registry on 127.0.0.1, spoken to by plain HTTP."""

    def __init__(self, settings: Settings, binaries: Binaries) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        """host:port, the first part of an image's name. Clients use plain HTTP on loopback unasked."""
        self.process = Process("registry", [binaries.registry, f"-port={port}"], settings.state_dir)

    async def up(self) -> None:
        """Start it; returns once it answers.

        Raises:
            SandboxError: where it ends early or is not ready in time.
        """
        await self.process.start()
        await self.process.ready(self._serves)

    async def down(self) -> None:
        """Stop it; its images are gone then."""
        await self.process.stop()

    async def _serves(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{self.address}/v2/") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
