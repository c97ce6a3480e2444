"""Temporal's server for production on a PostgreSQL of its own, for measurements: `make service` builds it.

All four services of Temporal run in one process, as with the development server. PostgreSQL comes from the machine
(Debian's ``postgresql``); it has its defaults, so each commit reaches the disk.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries import Binaries
from sandbox.claims import free_port
from sandbox.errors import SandboxError
from sandbox.processes import Process, Server
from sandbox.settings import Settings
from sandbox.temporal_server import DYNAMIC_CONFIG

USER = "nobody"
"""PostgreSQL refuses to run as root, so root runs it as this user."""
ROLE = "temporal"
SHARDS = 64
CONNECTIONS = 40
DATABASES = {"temporal": "postgresql/v12/temporal", "temporal_visibility": "postgresql/v12/visibility"}
"""The schema of each database, which the SQL tool has inside."""


class TemporalOnPostgres(Server):
    """One Temporal service on 127.0.0.1 with the namespace ``default``, and its database."""

    def __init__(self, settings: Settings, binaries: Binaries) -> None:
        self._binaries = binaries
        self._programs = postgres_programs()
        self._files = settings.state_dir / "temporal"
        self.data: Path | None = None
        self._database_port, http_port = free_port(), settings.temporal_ui_port or free_port()
        port = settings.temporal_port or free_port()
        self.address = f"127.0.0.1:{port}"
        """host:port of the frontend, as TEMPORAL_ADDRESS takes it."""
        self.ui = f"http://127.0.0.1:{http_port}"
        """The frontend's HTTP API: this server has no Web UI."""
        self._config = _config(port, http_port, self._database_port, self._files / "dynamic.yaml")
        server: list[str | Path] = [
            binaries.temporal_server,
            "--root",
            self._files,
            "--config",
            ".",
            "--env",
            "sandbox",
        ]
        process = Process("temporal", [*server, "--allow-no-auth", "start"], settings.state_dir)
        self._state_dir = settings.state_dir
        self.processes = [process]
        super().__init__(process, f"{self.ui}/api/v1/namespaces/default")

    async def up(self) -> None:
        """Start both; returns once the namespace is served.

        Raises:
            SandboxError: one ends early, or is not ready in time.
        """
        self._files.mkdir(parents=True, exist_ok=True)
        (self._files / "sandbox.yaml").write_text(yaml.safe_dump(self._config))
        values = dict(each.split("=") for each in DYNAMIC_CONFIG)
        dynamic = {name: [{"value": yaml.safe_load(value), "constraints": {}}] for name, value in values.items()}
        (self._files / "dynamic.yaml").write_text(yaml.safe_dump(dynamic))
        await self._start_database()
        for database, schema in DATABASES.items():
            await self._make(database, schema)
        await self.process.start()
        await self.process.ready(self._makes_namespace)
        await self.process.ready(self._serves)

    async def down(self) -> None:
        """Stop both, and remove the database."""
        for process in self.processes:
            await process.stop()
        if self.data:
            shutil.rmtree(self.data, ignore_errors=True)

    async def _start_database(self) -> None:
        # Beside the state directory: that may be one that only root may enter.
        self.data = Path(tempfile.mkdtemp(prefix="outlast-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.data, USER)
        where: list[str | Path] = ["-D", self.data]
        await _run(*self._programs.as_user, self._programs.initdb, *where, "-U", ROLE, "-A", "trust", "-E", "UTF8")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self._database_port,
            "unix_socket_directories": "",
            "max_connections": 4 * CONNECTIONS,
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [*self._programs.as_user, self._programs.postgres, *where, *words]
        database = Process("postgres", command, self._state_dir, directory=self.data)
        self.processes.insert(0, database)
        await database.start()
        await database.ready(self._accepts)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._database_port)
        except OSError:
            return False
        writer.close()
        return True

    async def _make(self, database: str, schema: str) -> None:
        tool: list[str | Path] = [
            self._binaries.temporal_tools_sql,
            "--plugin",
            "postgres12",
            "--ep",
            "127.0.0.1",
            "-u",
            ROLE,
        ]
        tool += ["-p", str(self._database_port), "--db", database]
        await _run(*tool, "create")
        await _run(*tool, "setup-schema", "-v", "0.0")
        await _run(*tool, "update-schema", "--schema-name", schema)

    async def _makes_namespace(self) -> bool:
        address = ["--address", self.address]
        try:
            await _run(self._binaries.temporal, "operator", "namespace", "create", "default", *address)
        except SandboxError as error:
            return "already exists" in str(error)
        return True


class Programs:
    """PostgreSQL's programs on this machine, and what runs them as somebody other than root."""

    def __init__(self, directory: Path) -> None:
        self.initdb, self.postgres = directory / "initdb", directory / "postgres"
        self.as_user = ["setpriv", f"--reuid={USER}", "--clear-groups"] if os.geteuid() == 0 else []


def postgres_programs(
    environment: Mapping[str, str] = os.environ, installed: Path = Path("/usr/lib/postgresql")
) -> Programs:
    """Find PostgreSQL's programs: on PATH, or where Debian puts those of each version.

    Raises:
        SandboxError: there are none.
    """
    found = shutil.which("initdb", path=environment.get("PATH", ""))
    places = [Path(found).resolve().parent] if found else sorted(installed.glob("*/bin"))
    if not places or not (places[-1] / "initdb").exists():
        raise SandboxError(
            f"PostgreSQL is neither on PATH nor in {installed}; on Debian and Ubuntu: apt install postgresql"
        )
    return Programs(places[-1])


def _config(port: int, http_port: int, database_port: int, dynamic: Path) -> dict[str, Any]:
    """Write the configuration of a server whose services share one process."""

    def store(database: str) -> dict[str, Any]:
        sql = {"pluginName": "postgres12", "databaseName": database, "connectAddr": f"127.0.0.1:{database_port}"}
        limits = {"maxConns": CONNECTIONS, "maxIdleConns": CONNECTIONS, "maxConnLifetime": "1h"}
        return {"sql": {**sql, "connectProtocol": "tcp", "user": ROLE, "password": "", **limits}}

    def service(grpc: int, **more: int) -> dict[str, Any]:
        return {"rpc": {"grpcPort": grpc, "membershipPort": free_port(), "bindOnLocalHost": True, **more}}

    stores = dict(zip(("default", "visibility"), map(store, DATABASES), strict=True))
    cluster = {"enabled": True, "initialFailoverVersion": 1, "rpcName": "frontend", "rpcAddress": f"127.0.0.1:{port}"}
    return {
        "log": {"stdout": True, "level": "warn"},
        "persistence": {
            "defaultStore": "default",
            "visibilityStore": "visibility",
            "numHistoryShards": SHARDS,
            "datastores": stores,
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
        "services": {
            "frontend": service(port, httpPort=http_port),
            **{name: service(free_port()) for name in ("matching", "history", "worker")},
        },
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {"active": cluster},
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "publicClient": {"hostPort": f"127.0.0.1:{port}"},
        "dynamicConfigClient": {"filepath": str(dynamic), "pollInterval": "10s"},
    }


async def _run(*command: str | Path) -> None:
    """Run a program to its end.

    Raises:
        SandboxError: it failed; the message is what it printed last.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, cwd="/",
    )  # fmt: skip
    words, _ = await process.communicate()
    if process.returncode:
        raise SandboxError(f"{Path(command[0]).name} failed:\n{words.decode(errors='replace')[-2000:]}")
