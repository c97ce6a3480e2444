"""Fixtures of the activities' tests: the shared control plane through the product's own client."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clients.kube import Kube, connect, path
from sandbox.kube_client import KubeClient
from sandbox.object_store import ObjectStore
from tests.activities.rights import ACCOUNT, NAMESPACE, TwoFaced, claims_roles
from tests.activities.world import World, eventually
from tests.bridge.policies import worker_is_held
from tests.sandbox.light_nodes import Nodes

CRDS = Path(__file__).parents[2] / "deploy" / "crd"
BASE = Path(__file__).parents[2] / "deploy" / "base"
CHECKPOINT_CRD = Path(__file__).parents[2] / "sandbox" / "checkpoint_operator" / "crd.yaml"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the worker's ServiceAccount, with the rights of deploy/base and held by its policies."""
    for file in ("namespace", "worker-rbac", "worker-policy", "bootstrap-rbac", "csr-policy"):
        await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", BASE / f"{file}.yaml")
    await eventually("the worker's policies are in force", lambda: worker_is_held(control_plane.kubectl))
    return Path(await control_plane.account(ACCOUNT, NAMESPACE, tmp_path_factory.mktemp("worker") / "kubeconfig"))


@pytest.fixture
async def kube(control_plane: Any, worker: Path) -> AsyncIterator[Kube]:
    """The product's client: the administrator's, and the worker's in activities."""
    admin, as_worker = await connect(str(control_plane.kubeconfig)), await connect(str(worker))
    async with TwoFaced(admin, as_worker) as client:
        yield client


@pytest.fixture
async def namespace(kube: Kube) -> str:
    """A namespace of this test's own, in which pods can be made, and CDI devices claimed as where Outlast is."""
    name = f"test-{secrets.token_hex(4)}"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    for made in claims_roles():
        await kube.create(path("rbac.authorization.k8s.io/v1", f"{made['kind'].lower()}s", name), made)
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
