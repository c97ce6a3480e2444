"""How the sandbox installs and runs the product, here with stand-ins for its programs and manifests."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.product import NAMESPACE, Product
from sandbox.settings import Settings

MANIFESTS = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: outlast-system}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: outlast-worker, namespace: outlast-system}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: outlast-bridge, namespace: outlast-system}}
"""

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rehearsals.sandbox.test}
spec:
  group: sandbox.test
  names: {kind: Rehearsal, plural: rehearsals}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
"""

PROGRAM = "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(60)"

ADDRESSES = {
    "TEMPORAL_ADDRESS": "127.0.0.1:7233",
    "GCE_ENDPOINT": "http://127.0.0.1:8181",
    "SSH_KEY_FILE": "/keys/id_ed25519",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {
        "deploy/crd/rehearsals.yaml": CRD,
        "deploy/overlays/sandbox/all.yaml": MANIFESTS,
        "deploy/overlays/sandbox/kustomization.yaml": "resources: [all.yaml]",
        "worker/__init__.py": "",
        "worker/__main__.py": PROGRAM,
        "crd_bridge/__init__.py": "",
        "crd_bridge/__main__.py": PROGRAM,
    }
    for name, text in files.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "repository"


@pytest_asyncio.fixture
async def product(control_plane: ControlPlane, repository: Path, tmp_path: Path) -> AsyncIterator[Product]:
    settings = Settings(state_dir=tmp_path / "state", product=True, product_env={"OUTLAST_TIMING_RESYNC": "5"})
    product = Product(settings, control_plane, ADDRESSES, repository)
    yield product
    await product.stop()


def environment(product: Product, name: str) -> dict[str, str]:
    [process] = [process for process in product.processes if process.name == name]
    return dict(json.loads(process.log.read_text().splitlines()[0]))


async def test_its_programs_get_what_they_need_and_no_more_rights_than_their_own(
    product: Product, control_plane: ControlPlane
) -> None:
    await product.start()
    worker = environment(product, "worker")
    assert worker["TEMPORAL_ADDRESS"] == "127.0.0.1:7233"
    assert worker["OUTLAST_GCE_ENDPOINT"] == "http://127.0.0.1:8181"
    assert worker["OUTLAST_GPU_OPERATOR_NAMESPACE"] == "kube-system", "where the stand-in's validator is"
    assert worker["OUTLAST_SSH_PORT"] == "2222"
    assert worker["OUTLAST_TIMING_RESYNC"] == "5"
    assert worker["KUBECONFIG"] != environment(product, "bridge")["KUBECONFIG"]
    who = await control_plane.kubectl(
        "--kubeconfig", worker["KUBECONFIG"], "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"
    )
    assert who == f"system:serviceaccount:{NAMESPACE}:outlast-worker"
    await control_plane.kubectl("get", "rehearsals")


async def test_a_temporal_that_the_user_works_with_is_left_out(
    control_plane: ControlPlane, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    monkeypatch.setenv("TEMPORAL_PROFILE", "production")
    product = Product(Settings(state_dir=tmp_path / "state", product=True), control_plane, ADDRESSES, repository)
    try:
        await product.start()
        names = {name for name in environment(product, "worker") if name.startswith("TEMPORAL_")}
    finally:
        await product.stop()
    assert names == {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_CONFIG_FILE"}


async def test_a_program_that_ends_at_once_is_told_with_its_words(product: Product, repository: Path) -> None:
    (repository / "worker" / "__main__.py").write_text("raise SystemExit('no Temporal at 127.0.0.1:7233')")
    with pytest.raises(SandboxError, match=r"worker ended with code 1:\nno Temporal at"):
        await product.start()


async def test_a_killed_program_can_be_started_again(product: Product) -> None:
    await product.start()
    worker, bridge = product.processes
    await worker.kill()
    await worker.start()
    await asyncio.sleep(0.1)
    assert worker.pid
    assert bridge.pid
