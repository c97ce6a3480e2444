"""Outlast itself in the sandbox: installed by its own manifests, with its workers and bridges as child processes.

Nothing of it is imported here. It gets what it gets in a real cluster: CRDs, RBAC, its environment, and a kubeconfig of
its ServiceAccount, which has only the rights of its role.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.gpu_operator import NAMESPACE as GPU_OPERATOR_NAMESPACE
from sandbox.machines.real.network import CONTROL_PLANE
from sandbox.processes import Process
from sandbox.settings import Settings

NAMESPACE = "outlast-system"
"""The namespace in which Outlast is installed."""

PARTS = (("worker", "worker", "outlast-worker"), ("bridge", "crd_bridge", "outlast-bridge"))
"""The name of each child process, its Python module and its ServiceAccount."""

REPOSITORY = Path(__file__).parent.parent


class Product:
    """One installation of Outlast in a sandbox."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        addresses: Mapping[str, str],
        repository: Path = REPOSITORY,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._cluster = cluster
        environment: dict[str, str | None] = {
            # The user's own Temporal has an address, a key and a profile, which are not meant for this one.
            **dict.fromkeys(name for name in os.environ if name.startswith("TEMPORAL_")),
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "OUTLAST_SSH_KEY_FILE": addresses["SSH_KEY_FILE"],
            "PYTHONUNBUFFERED": "1",
            **variables(settings, addresses),
        }
        self.processes = [
            Process(
                called,
                [sys.executable, "-m", module],
                settings.state_dir,
                {**environment, "KUBECONFIG": str(self._kubeconfig(name)), "OUTLAST_POD": called},
                directory=repository,
            )
            for number in range(1, settings.replicas + 1)
            for name, module, _ in PARTS
            for called in [name if number == 1 else f"{name}-{number}"]
        ]

    async def start(self) -> None:
        """Install the manifests, make the credentials, and start the processes.

        Raises:
            SandboxError: a manifest is refused, or a process ends at once.
        """
        await install_crds(self._cluster, self._repository)
        await self._cluster.install("-k", self._repository / "deploy" / "overlays" / "sandbox")
        accounts = (self._cluster.account(account, NAMESPACE, self._kubeconfig(name)) for name, _, account in PARTS)
        await asyncio.gather(*accounts)
        for process in self.processes:
            await process.start()
        await asyncio.gather(*map(self._lasts, self.processes))

    async def stop(self) -> None:
        """Stop the processes."""
        await asyncio.gather(*(process.stop() for process in self.processes))

    def _kubeconfig(self, name: str) -> Path:
        return self._settings.state_dir / f"{name}.kubeconfig"

    async def _lasts(self, process: Process, seconds: float = 2.0) -> None:
        """Wait ``seconds`` and check that it still runs: wrong settings end it within its first moments."""
        try:
            await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            return
        raise SandboxError(f"{process.name} ended with code {process.exit_code}:\n{process.log_tail()}")


def variables(settings: Settings, addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables with the addresses of everything."""
    return {
        "TEMPORAL_ADDRESS": addresses["TEMPORAL_ADDRESS"],
        "TEMPORAL_NAMESPACE": "default",
        "OUTLAST_NAMESPACE": NAMESPACE,
        "OUTLAST_GPU_OPERATOR_NAMESPACE": GPU_OPERATOR_NAMESPACE,
        "OUTLAST_GCE_ENDPOINT": addresses["GCE_ENDPOINT"],
        "OUTLAST_SSH_PORT": str(settings.ssh_port),
        # Registry and buckets are on loopback; pods reach them at the control plane's address.
        "OUTLAST_ALLOWED_NETWORKS": f"127.0.0.0/8,{CONTROL_PLANE}",
        # Every namespace may use Outlast's identity: the emulated cloud and the buckets require none.
        "OUTLAST_IDENTITY_GRANTS": "*: gcp://* gs://* s3://*",
        **settings.product_env,
    }


async def install_crds(cluster: Cluster, repository: Path = REPOSITORY) -> None:
    """Apply the CRDs, and wait until the API server serves them."""
    await cluster.kubectl("apply", "--server-side", "-f", repository / "deploy" / "crd")
    await cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=100s")
