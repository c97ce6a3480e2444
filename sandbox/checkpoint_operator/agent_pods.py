"""The operator on real machines: a DaemonSet of agents, which run in pods (``__main__``)."""

from __future__ import annotations

import json
import string
from pathlib import Path

from sandbox.checkpoint_operator.operator import CRD
from sandbox.checkpoint_operator.shared_traps import SharedTraps
from sandbox.checkpoint_operator.traps import ABSENT, PRESENT
from sandbox.cluster import Cluster
from sandbox.kube_client import KubeClient

_MANIFESTS = Path(__file__).parent / "agents.yaml"
_NOWHERE = "sandbox/checkpoint-agent"
"""A label that no node has."""


class AgentPods:
    """The agents of one cluster. ``image`` is theirs, and their manifests are written to ``directory``."""

    def __init__(self, cluster: Cluster, image: str, directory: Path) -> None:
        self._cluster = cluster
        self._image = image
        self._directory = directory
        self._client = KubeClient.from_kubeconfig(cluster.kubeconfig)
        self._traps = SharedTraps(self._client)

    async def start(self) -> None:
        """Install the CRD and the DaemonSet.

        Raises:
            SandboxError: the API server refuses them.
        """
        await self._cluster.install("-f", CRD)
        await self._cluster.kubectl("wait", "--for=condition=Established", "-f", CRD, "--timeout=100s")
        manifests = self._directory / _MANIFESTS.name
        manifests.write_text(string.Template(_MANIFESTS.read_text()).substitute(IMAGE=self._image))
        await self._cluster.install("-f", manifests)

    async def stop(self) -> None:
        """Stop playing traps. The agents end with their machines."""
        await self._client.close()

    async def play(
        self, trap: str, *, phase: str | None = None, count: int = 1, factor: float = 10.0, namespace: str | None = None
    ) -> None:
        """Play a trap, as ``CheckpointOperator.play`` does."""
        if trap == ABSENT:
            await self._select_nodes({_NOWHERE: "true"})
        elif trap == PRESENT:
            await self._select_nodes({_NOWHERE: None})
        else:
            await self._traps.add(trap, phase, count, factor, namespace)

    async def _select_nodes(self, selector: dict[str, str | None]) -> None:
        patch = json.dumps({"spec": {"template": {"spec": {"nodeSelector": selector}}}})
        agents = ("daemonset/checkpoint-agent", "--namespace=kube-system")
        await self._cluster.kubectl("patch", *agents, "--patch", patch)
