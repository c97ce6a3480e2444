"""Fixtures of the sandbox's tests on a real control plane: light nodes that join it, the checkpoint operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox.checkpoint_operator import CheckpointOperator, container_run
from sandbox.control_plane import ControlPlane
from sandbox.kube_client import KubeClient
from sandbox.registry import Registry
from tests.sandbox.checkpoints import Backups
from tests.sandbox.light_nodes import SPEED, Nodes, eventually


@pytest_asyncio.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """Connect as the administrator."""
    client = KubeClient.from_kubeconfig(control_plane.kubeconfig)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def namespace(admin: KubeClient) -> str:
    """Create a namespace for this test alone, in which pods can be made."""
    made = await admin.create("/api/v1/namespaces", {"metadata": {"generateName": "light-"}})
    name = made["metadata"]["name"]

    async def has_service_account() -> bool:
        accounts = await admin.get(f"/api/v1/namespaces/{name}/serviceaccounts")
        return bool(accounts["items"])

    await eventually("default service account", has_service_account)
    # It goes with the control plane. Deleted, it would keep the namespace controller busy, because its pods' nodes end.
    return name


@pytest_asyncio.fixture
async def nodes(control_plane: ControlPlane, admin: KubeClient, tmp_path: Path) -> AsyncIterator[Nodes]:
    """Make light nodes, and end them after the test."""
    made = Nodes(control_plane, admin, tmp_path)
    yield made
    await made.end()


@pytest_asyncio.fixture
async def operator(control_plane: ControlPlane) -> AsyncIterator[CheckpointOperator]:
    """Start the operator, which installs its CRD."""
    running = CheckpointOperator(control_plane.kubeconfig, SPEED)
    await running.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def backups(
    admin: KubeClient, namespace: str, registry: Registry, operator: CheckpointOperator
) -> AsyncIterator[Backups]:
    """Make CheckpointBackups, and the registry's credentials."""
    made = Backups(admin, namespace, registry.address)
    await made.create_secret()
    yield made
    await admin.delete(made.path)

    async def none_left() -> bool:
        operator.clear()
        return not (await admin.get(made.path))["items"]

    await eventually("all CheckpointBackups gone", none_left)


@pytest.fixture
def may_push(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Keep every checkpoint in the phase ImagePushing until this is set."""
    push, allowed = container_run.push, asyncio.Event()

    async def late(*image: Any, **traps: Any) -> None:
        await allowed.wait()
        await push(*image, **traps)

    monkeypatch.setattr(container_run, "push", late)
    return allowed
