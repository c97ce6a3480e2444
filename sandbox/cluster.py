"""A Kubernetes cluster that the sandbox's VMs can join, whoever runs its control plane."""

from __future__ import annotations

import asyncio
import json
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.kube_client import KubeClient
from sandbox.kubeconfig import by_token, kubeconfig, write_private
from sandbox.kubectl import Kubectl
from sandbox.pki import public_key_pin
from sandbox.processes import Process

Json = dict[str, Any]

TOKEN_GROUP = "system:bootstrappers:kubeadm:default-node-token"
"""The group that ``kubeadm`` gives its bootstrap tokens, and that has the right to join."""

EXPIRY_SECONDS = 10.0
"""How long the API server may still accept a token that has expired, in seconds."""

_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_LONG_AGO = "2020-01-01T00:00:00Z"

ACCOUNT_TOKEN_DURATION = "720h"
"""As long as a sandbox may be left running. The token ends with its ServiceAccount: see ``Cluster.account``."""


class Cluster(ABC):
    """A cluster as its administrator sees it: ``kubeconfig`` is the administrator's, and ``kubectl`` uses it."""

    processes: Sequence[Process] = ()
    """The child processes of the cluster."""

    def __init__(self, url: str, ca_file: Path, kubeconfig: Path, kubectl: Path) -> None:
        self.url = url
        self.ca_file = ca_file
        self.kubeconfig = kubeconfig
        self.kubectl = Kubectl(kubectl, kubeconfig)

    @abstractmethod
    async def up(self) -> None:
        """Make it ready for VMs to join.

        Raises:
            SandboxError: it cannot be made ready; the message says why.
        """

    @abstractmethod
    async def down(self) -> None:
        """Leave nothing of the sandbox in it."""

    @property
    def endpoint(self) -> str:
        """host:port of the API server, as ``kubeadm join`` takes it."""
        address = urlsplit(self.url)
        return address.netloc if address.port else f"{address.netloc}:443"

    @property
    def ca_hash(self) -> str:
        """The pin of ``kubeadm join --discovery-token-ca-cert-hash``."""
        return public_key_pin(self.ca_file.read_bytes())

    async def create_bootstrap_token(self, ttl: float = 3600.0) -> str:
        """Create a bootstrap token that is valid for ``ttl`` seconds."""
        return await create_bootstrap_token(self.kubectl, ttl)

    async def install(self, *manifests: str | Path) -> list[Json]:
        """Apply manifests, named as for kubectl (``-f FILE``, ``-k DIRECTORY``), and return the applied objects."""
        applied: Json = json.loads(await self.kubectl("apply", "--server-side", "-o", "json", *manifests))
        return list(applied["items"]) if applied["kind"] == "List" else [applied]

    async def account(self, name: str, namespace: str, path: Path) -> Path:
        """Write the kubeconfig of a ServiceAccount to ``path``. Its token ends with the ServiceAccount."""
        token = await self.kubectl(
            "create", "token", name, "--namespace", namespace, "--duration", ACCOUNT_TOKEN_DURATION
        )
        return write_private(path, kubeconfig(self.url, self.ca_file.read_bytes(), name, by_token(token.strip())))


async def create_bootstrap_token(kubectl: Kubectl, ttl: float = 3600.0) -> str:
    """Create a bootstrap token that is valid for ``ttl`` seconds, as ``kubeadm token create`` does."""
    letters = string.ascii_lowercase + string.digits
    token_id, secret = ("".join(secrets.choice(letters) for _ in range(n)) for n in (6, 16))
    expiration = datetime.now(UTC) + timedelta(seconds=ttl)
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"},
        "stringData": {
            "token-id": token_id,
            "token-secret": secret,
            "expiration": expiration.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": TOKEN_GROUP,
        },
    }
    await kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    return f"{token_id}.{secret}"


async def expire_bootstrap_token(kubeconfig: Path, token: str) -> None:
    """Make a bootstrap token expire; returns once the API server refuses it.

    Raises:
        ApiError: the token does not exist.
        TimeoutError: the API server still accepts it.
    """
    secret = f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token.partition('.')[0]}"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    admin = KubeClient.from_kubeconfig(kubeconfig)
    try:
        async with asyncio.timeout(EXPIRY_SECONDS):
            await admin.patch(secret, {"stringData": {"expiration": _LONG_AGO}})
            while (await admin.create(_REVIEWS, review))["status"].get("authenticated"):  # noqa: ASYNC110 - no watch
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
