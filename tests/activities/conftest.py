"""Fixtures of the activities' tests: the shared control plane, through the product's own client."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clients.kube import Kube, connect, path
from sandbox.kube_client import KubeClient
from sandbox.object_store import ObjectStore
from tests.activities.rights import ACCOUNT, NAMESPACE, TwoFaced, acts, claims_roles
from tests.activities.world import World, eventually
from tests.bridge.policies import worker_is_held
from tests.sandbox.light_nodes import Nodes

CRDS = Path(__file__).parents[2] / "deploy" / "crd"
BASE = Path(__file__).parents[2] / "deploy" / "base"
CHECKPOINT_CRD = Path(__file__).parents[2] / "sandbox" / "checkpoint_operator" / "crd.yaml"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a kubeconfig of the worker's ServiceAccount, with the rights and the policies of deploy/base."""
    for file in ("namespace", "worker-rbac", "worker-policy", "bootstrap-rbac", "csr-policy"):
        await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", BASE / f"{file}.yaml")
    await eventually("the worker's policies are in force", lambda: worker_is_held(control_plane.kubectl))
    return Path(await control_plane.account(ACCOUNT, NAMESPACE, tmp_path_factory.mktemp("worker") / "kubeconfig"))


@pytest.fixture
async def kube(control_plane: Any, worker: Path) -> AsyncIterator[Kube]:
    """Make the product's client: the administrator's, and the worker's in activities."""
    admin, as_worker = await connect(str(control_plane.kubeconfig)), await connect(str(worker))
    async with TwoFaced(admin, as_worker) as client:
        yield client


@pytest.fixture
async def namespace(kube: Kube) -> str:
    """Make a namespace for this test, in which pods can be made and CDI devices claimed, as in Outlast's own."""
    name = f"test-{secrets.token_hex(4)}"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    for made in claims_roles():
        await kube.create(path("rbac.authorization.k8s.io/v1", f"{made['kind'].lower()}s", name), made)
    async with asyncio.timeout(120):
        while True:
            if await kube.find(f"/api/v1/namespaces/{name}/serviceaccounts/default"):
                break
            await asyncio.sleep(0.05)
    # It goes with the control plane. If it were deleted, the namespace controller would be busy with it until then: its
    # pods are on nodes without a kubelet, so they never end.
    return name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crds(control_plane: Any) -> None:
    """Install our CRDs and the checkpoint operator's."""
    for definitions in (CRDS, CHECKPOINT_CRD):
        await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", definitions)
        await control_plane.kubectl("wait", "--for=condition=Established", "--timeout=100s", "-f", definitions)
    # The first request of a kind may be refused ("storage is (re)initializing"); kubectl asks again.
    await control_plane.kubectl("get", "spotinstancejobs,spotinstancevms,checkpointbackups", "-A")


@pytest.fixture
async def world(kube: Kube, namespace: str, crds: None) -> World:
    """Apply a SpotInstanceJob with its SpotInstanceVM, as a person does."""
    return await World.create(kube, namespace)


@pytest.fixture
def asked(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often the worker asked for what, by verb and path; refused writes count, too."""
    counted: Counter[tuple[str, str]] = Counter()
    read = kube._read

    async def counting(method: str, path: str, *more: Any) -> bytes:
        if acts():
            counted[method, path] += 1
        return await read(method, path, *more)

    monkeypatch.setattr(kube, "_read", counting)
    return counted


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    """Start an object store with the bucket ``checkpoints``."""
    made = ObjectStore()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def nodes(control_plane: Any, tmp_path: Path) -> AsyncIterator[Nodes]:
    """Make a maker of light nodes, whose pods really run."""
    admin = KubeClient.from_kubeconfig(control_plane.kubeconfig)
    made = Nodes(control_plane, admin, tmp_path)
    yield made
    await made.end()
    await admin.close()
