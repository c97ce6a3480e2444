"""A namespace of its own for each test, on the control plane that the tests share."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

CRDS = Path(__file__).parents[2] / "deploy" / "crd"

Manifest = dict[str, Any]
Apply = Callable[[Manifest], Awaitable[str]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crds(control_plane: Any) -> None:
    """The API server knows our CRDs."""
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRDS)
    await control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)


@pytest.fixture
async def namespace(control_plane: Any, crds: None) -> AsyncIterator[str]:
    """A new namespace on an API server that knows our CRDs."""
    name = f"test-{secrets.token_hex(4)}"
    await control_plane.kubectl("create", "namespace", name)
    yield name
    await control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def apply(control_plane: Any, namespace: str) -> Apply:
    """Apply one object in the test's namespace as a person would, by kubectl with its strict validation."""

    async def run(manifest: Manifest) -> str:
        return str(await control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest)))

    return run


@pytest.fixture
def job() -> Manifest:
    """A small SpotInstanceJob that the API server takes."""
    return {
        "apiVersion": "training.training.dcnlab.com/v1alpha1",
        "kind": "SpotInstanceJob",
        "metadata": {"name": "train"},
        "spec": {
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "train", "image": "busybox"}]}}}},
            "checkpointConfig": {"checkpointImageRepo": "gcr.io/team/train"},
            "spotInstanceVMRef": {"name": "t4"},
        },
    }


@pytest.fixture
def vm() -> Manifest:
    """A small SpotInstanceVM that the API server takes."""
    return {
        "apiVersion": "training.training.dcnlab.com/v1alpha1",
        "kind": "SpotInstanceVM",
        "metadata": {"name": "t4"},
        "spec": {
            "vmImage": "ubuntu-2404-lts-amd64",
            "gcp": {"project": "team", "zone": "us-central1-a", "machineType": "n1-standard-4"},
        },
    }
