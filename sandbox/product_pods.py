"""Outlast in the sandbox as it is deployed: worker, bridge and node agent in pods, from the manifests in `deploy/base`.

They run on a real machine that no cloud will take away, from an image that the sandbox's registry has. What is changed
of the manifests is what an installation changes, and one thing more: the worker shares its node's network, because the
registry is on loopback there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from sandbox.cluster import Cluster, create_bootstrap_token
from sandbox.machines import MachineSpec
from sandbox.machines.real import RealMachine, RealMachines
from sandbox.machines.real.network import as_machines_reach
from sandbox.processes import Process
from sandbox.product import NAMESPACE, REPOSITORY, install_crds, variables
from sandbox.settings import Settings

NODE = "system-1"
ADDRESS = "10.128.200.2"
DEPLOYMENTS = ("outlast-worker", "outlast-bridge")
UP_SECONDS = 180

Json = dict[str, Any]


class ProductPods:
    """One installation of Outlast in a sandbox with real machines."""

    processes: tuple[Process, ...] = ()
    """None are ours: its pods are the cluster's."""

    def __init__(
        self, settings: Settings, cluster: Cluster, addresses: Mapping[str, str], machines: RealMachines
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._addresses = addresses
        self._machines = machines
        self._node: RealMachine | None = None

    async def start(self) -> None:
        """Bring up the machine, install the manifests, and wait for the pods.

        Raises:
            SandboxError: where a manifest is refused, or a pod does not become ready in time.
        """
        await install_crds(self._cluster)
        self._node = self._machines.create(await self._machine())
        await self._node.boot()
        await self._cluster.install("-k", self._overlay())
        await self._cluster.kubectl(
            "wait", "--namespace", NAMESPACE, "--for=condition=Available", f"--timeout={UP_SECONDS}s",
            *(f"deployment/{name}" for name in DEPLOYMENTS), deadline=UP_SECONDS + 10,
        )  # fmt: skip

    async def stop(self) -> None:
        """Cut the machine's power."""
        if self._node:
            await self._node.power_off(0)

    async def _machine(self) -> MachineSpec:
        """A machine that joins at its boot, as any user's own node."""
        token = await create_bootstrap_token(self._cluster.kubectl)
        join = f"kubeadm join {self._cluster.endpoint} --token {token} --discovery-token-ca-cert-hash"
        return MachineSpec(
            name=NODE,
            project="sandbox",
            zone="sandbox",
            machine_type="e2-standard-2",
            instance_id=1,
            address=ADDRESS,
            gpu_type=None,
            gpu_count=0,
            metadata={"startup-script": f"#!/bin/sh\n{join} {self._cluster.ca_hash}\n"},
            service_account=None,
        )

    def _overlay(self) -> str:
        """A kustomization over `deploy/base`; its path."""
        directory = self._settings.state_dir / "overlay"
        directory.mkdir(exist_ok=True)
        (directory / "ssh-privatekey").write_bytes((self._settings.state_dir / "ssh" / "id_ed25519").read_bytes())
        (directory / "ssh-privatekey").chmod(0o600)
        kustomization = {
            "resources": [os.path.relpath(REPOSITORY / "deploy" / "base", directory)],
            "images": [{"name": "outlast", "newName": f"{self._addresses['REGISTRY']}/outlast"}],
            "secretGenerator": [{"name": "outlast-ssh", "namespace": NAMESPACE, "files": ["ssh-privatekey"]}],
            "generatorOptions": {"disableNameSuffixHash": True},
            "patches": [{"patch": json.dumps(patch)} for patch in (self._settings_map(), _HOST_NETWORK)],
        }
        (directory / "kustomization.yaml").write_text(json.dumps(kustomization))
        return str(directory)

    def _settings_map(self) -> Json:
        own = {name: value for name, value in os.environ.items() if name.startswith("OUTLAST_TIMING_")}
        reached = {name: as_machines_reach(value) for name, value in self._addresses.items()}
        data = own | variables(self._settings, reached)
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("outlast-settings"), "data": data}


def _metadata(name: str) -> Json:
    return {"name": name, "namespace": NAMESPACE}


_HOST_NETWORK: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": _metadata("outlast-worker"),
    "spec": {"template": {"spec": {"hostNetwork": True}}},
}
