"""Temporal's own development server, with its Web UI, on a database file."""

from __future__ import annotations

import aiohttp

from sandbox.binaries import Binaries
from sandbox.processes import Process, free_port
from sandbox.settings import Settings


class TemporalServer:
    """One Temporal service on 127.0.0.1 with the namespace `default`."""

    def __init__(self, settings: Settings, binaries: Binaries) -> None:
        port = settings.temporal_port or free_port()
        ui_port = settings.temporal_ui_port or free_port()
        self.address = f"127.0.0.1:{port}"
        """host:port of the frontend, as TEMPORAL_ADDRESS takes it."""
        self.ui = f"http://127.0.0.1:{ui_port}"
        database = settings.state_dir / "temporal" / "temporal.db"
        database.parent.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            "temporal",
            [
                binaries.temporal, "server", "start-dev",
                "--ip", "127.0.0.1",
                "--port", str(port),
                "--ui-port", str(ui_port),
                "--db-filename", database,
                # A file that survives a killed process, at a third of the cost of SQLite's defaults.
                "--sqlite-pragma", "journal_mode=wal",
                "--sqlite-pragma", "synchronous=normal",
                "--ui-disable-news-fetch",
                "--log-level", "warn",
            ],
            settings.state_dir,
        )  # fmt: skip

    async def up(self) -> None:
        """Start it; returns once the frontend, the namespace and the Web UI answer.

        Raises:
            SandboxError: where it ends early or is not ready in time.
        """
        await self.process.start()
        await self.process.ready(self._serves)

    async def down(self) -> None:
        """Stop it."""
        await self.process.stop()

    async def _serves(self) -> bool:
        # The Web UI hands this on to the frontend: one question asks all three.
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.ui}/api/v1/namespaces/default") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
