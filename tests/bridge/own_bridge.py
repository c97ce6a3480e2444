"""A bridge as it runs in the cluster: with the token and the rights of its ServiceAccount, and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client

from clients.kube import connect
from crd_bridge.bridge import Bridge
from tests.bridge.test_main import write_kubeconfig


@asynccontextmanager
async def own_bridge(control_plane: Any, client: Client, folder: Path, **options: Any) -> AsyncIterator[None]:
    """Run one while a block lasts; ``folder`` takes its kubeconfig."""
    token = await control_plane.kubectl("create", "token", "outlast-bridge", "-n", "outlast-system")
    config = write_kubeconfig(folder, control_plane.url, control_plane.ca_file, token.strip())
    async with await connect(str(config)) as kube:
        task = asyncio.create_task(Bridge(kube, client, "this-cluster", **options).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
