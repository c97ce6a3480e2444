"""A cluster that exists already and that the sandbox's VMs join: kind's, kubeadm's, k3s's, another sandbox's.

It belongs to somebody. The sandbox reports what is missing in it instead of repairing it, and leaves it as it was. Only
CRDs stay, because objects of these kinds would be deleted with them.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sandbox.checkpoint_operator import ACCOUNT, ACCOUNT_NAMESPACE
from sandbox.checkpoint_operator.operator import FIELD_MANAGER
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.join_obstacles import obstacles
from sandbox.kubeconfig import write_private
from sandbox.kubectl import Kubectl
from sandbox.settings import OCTETS, Settings

log = logging.getLogger(__name__)

Json = dict[str, Any]

BACKUPS = "customresourcedefinition/checkpointbackups.migration.dcnlab.com"
OPERATOR_ACCOUNT = f"serviceaccount/{ACCOUNT}"
OUTLAST = "namespace/outlast-system"


class ExistingCluster(Cluster):
    """The cluster of ``Settings.kubeconfig``. Its ``url`` is empty until ``up``."""

    def __init__(self, settings: Settings, kubectl: Path) -> None:
        assert settings.kubeconfig
        super().__init__("", settings.state_dir / "kubernetes" / "ca.crt", settings.admin_kubeconfig, kubectl)
        self._given = settings.kubeconfig
        self._given_kubectl = Kubectl(kubectl, settings.kubeconfig)
        self._with_outlast = settings.product
        self._accepted = False
        self._installed: list[Json] = []
        self._tokens: list[str] = []

    async def up(self) -> None:
        """Check whether VMs can join.

        Raises:
            SandboxError: they cannot; the message has a line for each reason, with its remedy.
        """
        await self._read()
        await self._reach()
        token = await self.create_bootstrap_token()
        found = await obstacles(self.url, self.ca_file, token, self._given)
        found += [line async for line in self._occupants()]
        if found:
            raise SandboxError("\n- ".join([f"the cluster of {self._given} cannot be used as it is:", *found]))
        self._accepted = True
        await self._warn_of_distance()

    async def down(self) -> None:
        """Remove what the sandbox put in: Nodes of our VMs, installed objects, bootstrap tokens. CRDs stay."""
        if not self.url:
            return
        for remove in (self._remove_nodes, self._remove_installed, self._remove_tokens):
            try:
                await remove()
            except SandboxError as error:
                log.warning("something is left in the cluster of %s: %s", self._given, error)

    async def create_bootstrap_token(self, ttl: float = 3600.0) -> str:
        """Create a bootstrap token that is valid for ``ttl`` seconds or until ``down``."""
        token = await super().create_bootstrap_token(ttl)
        self._tokens.append(f"bootstrap-token-{token.partition('.')[0]}")
        return token

    async def install(self, *manifests: str | Path) -> list[Json]:
        """Apply manifests; the objects stay until ``down``, CRDs longer."""
        applied = await super().install(*manifests)
        self._installed += [each for each in applied if each["kind"] != "CustomResourceDefinition"]
        return applied

    async def _read(self) -> None:
        """Copy the kubeconfig's current context, with everything that it refers to in other files."""
        if not self._given.is_file():
            raise SandboxError(f"there is no kubeconfig {self._given}")
        text = await self._given_kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json")
        cluster = json.loads(text)["clusters"][0]["cluster"]
        write_private(self.kubeconfig, text)
        if "certificate-authority-data" not in cluster:
            raise SandboxError(f"{self._given} names no certificate-authority, which joining nodes need")
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        write_private(self.ca_file, ca)
        self.url = cluster["server"].rstrip("/")

    async def _reach(self) -> None:
        try:
            await self.kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
        except SandboxError as error:
            raise SandboxError(f"{self.url} of {self._given} is not ready: {error}") from None
        try:
            await self.kubectl("auth", "can-i", "*", "*", "--all-namespaces")
        except SandboxError:
            raise SandboxError(
                f"{self._given} is not an administrator's kubeconfig: name one that may do everything"
            ) from None

    async def _occupants(self) -> AsyncIterator[str]:
        """Yield what is already in the cluster and would conflict with the sandbox."""
        crd = await self._find(BACKUPS)
        if crd and all(entry["manager"] != FIELD_MANAGER for entry in crd["metadata"]["managedFields"]):
            yield f"another checkpoint operator serves it ({BACKUPS} is not the sandbox's): uninstall that, and its CRD"
        if await self._find(OPERATOR_ACCOUNT, f"--namespace={ACCOUNT_NAMESPACE}"):
            yield (
                "the checkpoint operator of another sandbox serves it: bring that one up with `--parts kubernetes`; "
                f"after a crash: kubectl delete --namespace {ACCOUNT_NAMESPACE} {OPERATOR_ACCOUNT}"
            )
        if self._with_outlast and await self._find(OUTLAST):
            yield f"Outlast is installed there: leave out --product, or kubectl delete {OUTLAST}"
        if nodes := await self._nodes():
            remedy = f"kubectl delete nodes {' '.join(nodes)}"
            yield f"VMs of another sandbox, or of one that crashed, are nodes there: {remedy}"

    async def _warn_of_distance(self) -> None:
        """Warn if the API server runs elsewhere: VMs have loopback addresses, so it cannot reach their kubelets."""
        listing = await self._get("nodes", "--selector=node-role.kubernetes.io/control-plane")
        for node in listing["items"]:
            address = _address(node)
            if address and not _is_this_machines(address):
                log.warning(
                    "kubectl logs and the progress of trainings will not work on VMs: the API server on node %s (%s) "
                    "cannot reach loopback addresses of this machine; run the sandbox where the control plane runs",
                    node["metadata"]["name"], address,
                )  # fmt: skip

    async def _remove_nodes(self) -> None:
        # The Nodes of a cluster that was refused belong to another sandbox.
        if self._accepted and (nodes := await self._nodes()):
            await self.kubectl("delete", "nodes", "--ignore-not-found", *nodes)

    async def _remove_installed(self) -> None:
        if self._installed:
            objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": self._installed})
            await self.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=objects)

    async def _remove_tokens(self) -> None:
        if self._tokens:
            await self.kubectl("delete", "secrets", "--namespace=kube-system", "--ignore-not-found", *self._tokens)

    async def _nodes(self) -> list[str]:
        """Return the Nodes that are VMs of a sandbox: of this one, once the cluster is known to be free of others."""
        items = (await self._get("nodes"))["items"]
        return [node["metadata"]["name"] for node in items if _is_vms(_address(node) or "")]

    async def _find(self, what: str, *options: str) -> Json:
        """Return one object, empty if it does not exist."""
        return await self._get(what, "--ignore-not-found", "--show-managed-fields", *options)

    async def _get(self, *arguments: str) -> Json:
        text = await self.kubectl("get", *arguments, "-o", "json")
        return dict(json.loads(text)) if text else {}


def _address(node: Json) -> str | None:
    addresses = node.get("status", {}).get("addresses", ())
    return next((entry["address"] for entry in addresses if entry["type"] == "InternalIP"), None)


def _is_vms(address: str) -> bool:
    """True if sandboxes give such an address to VMs."""
    first, _, rest = address.partition(".")
    return first == "127" and int(rest.partition(".")[0]) in OCTETS


def _is_this_machines(address: str) -> bool:
    """True if the address belongs to this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
