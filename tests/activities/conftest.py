"""Fixtures of the activities' tests: the shared control plane through the product's own client."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities.kube import Kube, connect


@pytest.fixture
async def kube(control_plane: Any) -> AsyncIterator[Kube]:
    """The product's client, as the administrator."""
    async with await connect(str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture
async def namespace(kube: Kube) -> AsyncIterator[str]:
    """A namespace of this test's own, in which pods can be made."""
    name = f"test-{secrets.token_hex(4)}"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    async with asyncio.timeout(30):
        while True:
            if await kube.find(f"/api/v1/namespaces/{name}/serviceaccounts/default"):
                break
            await asyncio.sleep(0.05)
    yield name
    await kube.delete(f"/api/v1/namespaces/{name}")
