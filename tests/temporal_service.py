"""A Temporal service for tests that need one of their own, with other settings or an empty database."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from sandbox.binaries import Binaries
from sandbox.claims import free_port
from sandbox.processes import Process

START_SECONDS = 240.0
folder: Path | None = None
"""The folder of the services' logs: after an interrupted run of the tests, the processes of this folder are ended."""


@contextlib.asynccontextmanager
async def own_service(executables: Binaries, *arguments: str) -> AsyncIterator[Client]:
    """Start a service in memory, and connect to it.

    ``WorkflowEnvironment.start_local`` gives the server five seconds to start, which are too few on a busy machine.

    Args:
        arguments: of ``temporal server start-dev``.
    """
    address = f"127.0.0.1:{free_port()}"
    clients: list[Client] = []

    async def serves() -> bool:
        try:
            clients.append(await Client.connect(address, data_converter=pydantic_data_converter))
            await clients[-1].count_workflows()
        except (RuntimeError, RPCError):
            return False
        return True

    with tempfile.TemporaryDirectory(prefix="outlast-temporal-", dir=folder) as directory:
        command = [
            executables.temporal, "server", "start-dev", "--ip", "127.0.0.1", "--port", address.partition(":")[2],
            "--headless", "--log-level", "warn", *arguments,
        ]  # fmt: skip
        process = Process("temporal", command, Path(directory))
        await process.start()
        try:
            await process.ready(serves, START_SECONDS)
            yield clients[-1]
        finally:
            await process.stop()
