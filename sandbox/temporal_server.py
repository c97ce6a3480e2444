"""Temporal's own development server, with its Web UI, on a database file."""

from __future__ import annotations

from sandbox.binaries import Binaries
from sandbox.claims import free_port
from sandbox.processes import Process, Server
from sandbox.settings import Settings

DYNAMIC_CONFIG = ('frontend.keepAliveTime="5s"', 'frontend.keepAliveTimeout="5s"')
"""What docs/reliability.md advises: a worker whose node failed gets no more work after ten seconds. The default is
seventy seconds, and each task that it gets delays its workflow until that task times out (ten seconds)."""


class TemporalServer(Server):
    """One Temporal service on 127.0.0.1 with the namespace ``default``."""

    def __init__(self, settings: Settings, binaries: Binaries) -> None:
        port = settings.temporal_port or free_port()
        ui_port = settings.temporal_ui_port or free_port()
        self.address = f"127.0.0.1:{port}"
        """host:port of the frontend, as TEMPORAL_ADDRESS takes it."""
        self.ui = f"http://127.0.0.1:{ui_port}"
        database = settings.state_dir / "temporal" / "temporal.db"
        database.parent.mkdir(parents=True, exist_ok=True)
        process = Process(
            "temporal",
            [
                binaries.temporal, "server", "start-dev",
                "--ip", "127.0.0.1",
                "--port", str(port),
                "--ui-port", str(ui_port),
                "--db-filename", database,
                # The file survives a killed process (but no power loss), at a fraction of the defaults' cost.
                "--sqlite-pragma", "journal_mode=wal",
                "--sqlite-pragma", "synchronous=off",
                "--ui-disable-news-fetch",
                *(word for setting in DYNAMIC_CONFIG for word in ("--dynamic-config-value", setting)),
                "--log-level", "warn",
            ],
            settings.state_dir,
        )  # fmt: skip
        # The Web UI forwards this, so one request checks the Web UI, the frontend and the namespace.
        super().__init__(process, f"{self.ui}/api/v1/namespaces/default")
        self.processes = [process]
