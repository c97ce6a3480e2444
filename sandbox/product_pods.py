"""Outlast in the sandbox as it is deployed: worker, bridge and node agent in pods, from ``deploy/base``.

They run on two real machines that no cloud will preempt, from an image in the sandbox's registry. The manifests are
changed only as any installation changes them, with one exception: the worker shares its node's network, because the
registry is on loopback there.
"""

from __future__ import annotations

import asyncio
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

NODES = {"system-1": "10.128.200.2", "system-2": "10.128.200.3"}
"""The addresses of the machines, each of which runs one worker and one bridge."""
UP_SECONDS = 180

Json = dict[str, Any]


class ProductPods:
    """One installation of Outlast in a sandbox with real machines."""

    processes: tuple[Process, ...] = ()
    """Empty: its pods belong to the cluster."""

    def __init__(
        self, settings: Settings, cluster: Cluster, addresses: Mapping[str, str], machines: RealMachines
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._addresses = addresses
        self._machines = machines
        self._nodes: dict[str, RealMachine] = {}

    async def start(self) -> None:
        """Bring up the machines, install the manifests, and wait for the pods and for what sets up Temporal.

        Raises:
            SandboxError: a manifest is refused, or a pod does not become ready in time.
        """
        await install_crds(self._cluster)
        await asyncio.gather(*map(self._join, NODES))
        # Otherwise all pods would be on the node that joined first.
        for name in NODES:
            await self._cluster.kubectl(
                "wait", f"node/{name}", "--for=create", f"--timeout={UP_SECONDS}s", deadline=UP_SECONDS + 10
            )
            await self._wait("node", name, "Ready")
        await self._cluster.install("-k", self._overlay())
        await self._wait("deployment", "--selector=app.kubernetes.io/name=outlast", "Available")
        await self._wait("job", "--selector=app.kubernetes.io/component=setup", "Complete")

    async def stop(self) -> None:
        """Cut the machines' power."""
        await asyncio.gather(*map(self.cut, self._nodes))

    async def cut(self, node: str) -> None:
        """Cut the power of a machine on which Outlast runs.

        Raises:
            KeyError: no machine has this name.
        """
        await self._nodes[node].power_off(0)

    async def boot(self, node: str) -> None:
        """Power on a machine on which Outlast runs; its kubelet starts by itself.

        Raises:
            KeyError: no machine has this name.
        """
        await self._nodes[node].boot()

    async def _join(self, node: str) -> None:
        machine = self._nodes[node] = self._machines.create(await self._machine(node))
        await machine.boot()

    async def _wait(self, kind: str, which: str, condition: str) -> None:
        await self._cluster.kubectl(
            "wait", kind, which, "--namespace", NAMESPACE, f"--for=condition={condition}", f"--timeout={UP_SECONDS}s",
            deadline=UP_SECONDS + 10,
        )  # fmt: skip

    async def _machine(self, node: str) -> MachineSpec:
        """Describe a machine that joins at its first boot, like any user's own node."""
        token = await create_bootstrap_token(self._cluster.kubectl)
        join = f"kubeadm join {self._cluster.endpoint} --token {token} --discovery-token-ca-cert-hash"
        joined = "/etc/kubernetes/kubelet.conf"
        return MachineSpec(
            name=node,
            project="sandbox",
            zone="sandbox",
            machine_type="e2-standard-2",
            instance_id=list(NODES).index(node) + 1,
            address=NODES[node],
            gpu_type=None,
            gpu_count=0,
            metadata={"startup-script": f"#!/bin/sh\ntest -e {joined} || {join} {self._cluster.ca_hash}\n"},
            service_account=None,
        )

    def _overlay(self) -> str:
        """Write a kustomization over ``deploy/base``, and return its path."""
        directory = self._settings.state_dir / "overlay"
        directory.mkdir(exist_ok=True)
        (directory / "ssh-privatekey").write_bytes((self._settings.state_dir / "ssh" / "id_ed25519").read_bytes())
        (directory / "ssh-privatekey").chmod(0o600)
        kustomization = {
            "resources": [os.path.relpath(REPOSITORY / "deploy" / "base", directory)],
            "images": [{"name": "outlast", "newName": f"{self._addresses['REGISTRY']}/outlast", "newTag": "sandbox"}],
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
