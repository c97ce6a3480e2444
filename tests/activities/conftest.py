"""Fixtures of the activities' tests: the shared control plane through the product's own client."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clients.kube import Kube, connect
from sandbox.kube_client import KubeClient
from sandbox.object_store import ObjectStore
from tests.activities.world import World
from tests.sandbox.light_nodes import Nodes

CRDS = Path(__file__).parents[2] / "deploy" / "crd"
CHECKPOINT_CRD = Path(__file__).parents[2] / "sandbox" / "checkpoint_operator" / "crd.yaml"


@pytest.fixture
async def kube(control_plane: Any) -> AsyncIterator[Kube]:
    """The product's client, as the administrator."""
    async with await connect(str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture
async def namespace(kube: Kube) -> str:
    """A namespace of this test's own, in which pods can be made."""
    name = f"test-{secrets.token_hex(4)}"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    async with asyncio.timeout(120):
        while True:
            if await kube.find(f"/api/v1/namespaces/{name}/serviceaccounts/default"):
                break
            await asyncio.sleep(0.05)
    # It goes with the control plane. Deleted, it would keep the namespace controller at work until then: its pods are
    # on nodes that no kubelet looks after, so they never end.
    return name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crds(control_plane: Any) -> None:
    """The API server knows our CRDs and the checkpoint operator's."""
    for definitions in (CRDS, CHECKPOINT_CRD):
        await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", definitions)
        await control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", definitions)
    # The first request of a kind may be put off ("storage is (re)initializing"); kubectl asks again.
    await control_plane.kubectl("get", "spotinstancejobs,spotinstancevms,checkpointbackups", "-A")


@pytest.fixture
async def world(kube: Kube, namespace: str, crds: None) -> World:
    """A SpotInstanceJob with its SpotInstanceVM, as a person applied them."""
    return await World.create(kube, namespace)


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    """An object store, with the bucket ``checkpoints``."""
    made = ObjectStore()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def nodes(control_plane: Any, tmp_path: Path) -> AsyncIterator[Nodes]:
    """A maker of light nodes, whose pods really run."""
    admin = KubeClient.from_kubeconfig(control_plane.kubeconfig)
    made = Nodes(control_plane, admin, tmp_path)
    yield made
    await made.end()
    await admin.close()
