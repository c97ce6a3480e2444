"""Light nodes and their pods, for the sandbox's own tests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.control_plane import ControlPlane
from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light.kubelet import Kubelet, KubeletConfig
from sandbox.pki import Pair

T = TypeVar("T")
SPEED = 20.0
ENDLESS = 100_000
"""Steps that take longer than any test: a training ends because the test wants it to, never because time has passed."""
_hosts = itertools.count(1)


async def eventually(
    what: str, check: Callable[[], Awaitable[T | None]], seconds: float = 150.0, pause: float = 0.1
) -> T:
    """Wait until ``check`` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := await check()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(pause)
    return result


class Nodes:
    """Makes light nodes, which are dead and gone at the end of the test."""

    def __init__(self, control_plane: ControlPlane, admin: KubeClient, directory: Path) -> None:
        self._control_plane = control_plane
        self._admin = admin
        self._directory = directory
        self.kubelets: dict[str, Kubelet] = {}

    def root(self, name: str) -> Path:
        """Return the directory that is a node's file system."""
        return self._directory / name

    async def start(self, gpus: int = 1, speed: float = SPEED, **options: Any) -> str:
        """Join a node, wait until it is Ready with its GPUs, and return its name."""
        number = next(_hosts)
        name = f"node-{os.getpid()}-{number}"
        pair = _node_certificate(self._control_plane.pki.ca, name, self._directory)
        options = {
            "provider_id": f"gce://test/zone/{name}",
            "node_labels": {"test": "yes"},
            "shutdown_grace": 10.0,
        } | options
        config = KubeletConfig(
            node_name=name,
            # Outside the octets that sandboxes take, so that tests run beside one.
            address=f"127.200.{os.getpid() % 250 + 1}.{number}",
            api_server=self._control_plane.url,
            ca_file=self._control_plane.ca_file,
            client_cert_file=pair.certificate,
            client_key_file=pair.key,
            gpu_count=gpus,
            root=self.root(name),
            speed=speed,
            **options,
        )
        kubelet = Kubelet(config)
        self.kubelets[name] = kubelet
        await kubelet.start()

        async def is_ready() -> bool:
            status = (await self._admin.get(f"/api/v1/nodes/{name}"))["status"]
            has_gpus = not gpus or status["allocatable"].get("nvidia.com/gpu") == str(gpus)
            return has_gpus and condition(status, "Ready")["status"] == "True"

        await eventually(f"node {name} Ready", is_ready)
        return name

    async def end(self) -> None:
        """Kill all kubelets, and delete their Node objects."""
        for name, kubelet in self.kubelets.items():
            await kubelet.kill()
            with contextlib.suppress(ApiError):  # a test may have deleted it
                await self._admin.delete(f"/api/v1/nodes/{name}")


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return one condition of a status, empty if it does not exist."""
    return next((entry for entry in status.get("conditions", ()) if entry["type"] == kind), {})


def training_pod(name: str, node: str, image: str = "pytorch/pytorch:2.9", **spec: Any) -> dict[str, Any]:
    """Describe a pod with one light training, which the scheduler binds to a node. The training does not end by itself,
    unless its environment says after how many steps.
    """
    container = {"name": "trainer", "image": image, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    container |= spec.pop("container", {})
    given = container.get("env", [])
    if not any(each["name"] == "SANDBOX_STEPS" for each in given):
        container["env"] = [*given, *env(SANDBOX_STEPS=ENDLESS)]
    defaults = {"restartPolicy": "Never", "nodeSelector": {"kubernetes.io/hostname": node}}
    return {"metadata": {"name": name}, "spec": {**defaults, "containers": [container], **spec}}


async def start_training(admin: KubeClient, namespace: str, name: str, node: str, **spec: Any) -> None:
    """Create a pod and wait until it runs."""
    pod = training_pod(name, node, **spec)
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", pod)

    async def runs() -> bool:
        return (await admin.get(f"/api/v1/namespaces/{namespace}/pods/{name}"))["status"]["phase"] == "Running"

    await eventually(f"pod {name} Running", runs)


def env(**variables: object) -> list[dict[str, str]]:
    """Describe environment variables of a container."""
    return [{"name": name, "value": str(value)} for name, value in variables.items()]


def _node_certificate(ca: Pair, node: str, directory: Path) -> Pair:
    """Issue a node's client certificate, like that from a CSR of ``kubeadm join``."""
    ca_key = serialization.load_pem_private_key(ca.key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(ca.certificate.read_bytes()).subject
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(ca_key, hashes.SHA256())
    )
    pair = Pair(directory / f"{node}.crt", directory / f"{node}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair
