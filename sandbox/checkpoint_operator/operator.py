"""The operator as a whole: an agent on every node that is up, and the traps to play.

The model is https://github.com/lehuannhatrang/stateful-migration-operator: a privileged DaemonSet whose pods all watch
CheckpointBackups. One agent represents the cluster's other nodes, which are not spot VMs: it runs no training, but adds
and removes finalizers. The optional webhook that rewrites the images of Job-owned pods is left out.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import yaml

from sandbox.checkpoint_operator.agent import Agent, Work
from sandbox.checkpoint_operator.backup import COLLECTION, Key, key_of
from sandbox.checkpoint_operator.node_access import AgentDied, NodeAccess
from sandbox.checkpoint_operator.traps import ABSENT, PRESENT, Trap, Traps
from sandbox.kube_client import KubeClient

log = logging.getLogger(__name__)

Json = dict[str, Any]

CRD = Path(__file__).parent / "crd.yaml"
STUB_CRD = Path(__file__).parent / "crd-stub.yaml"
RBAC = Path(__file__).parent / "rbac.yaml"
"""The rights that a ``CheckpointOperator`` needs, and the ServiceAccount that has them."""
ACCOUNT = "sandbox-checkpoint-operator"
ACCOUNT_NAMESPACE = "kube-system"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ESTABLISHED_SECONDS = 30.0
BUILD_SECONDS = 5.0
PUSH_SECONDS = 5.0
"""Emulated seconds that it takes to build an image, and to push one."""
FIELD_MANAGER = "checkpoint-operator"
OTHER_NODES = ""


class CheckpointOperator:
    """Runs the checkpoint operator of one cluster. Emulated durations, in seconds, are divided by ``speed``.

    ``crd`` is the definition that it installs: ``STUB_CRD`` is an outdated one, None installs none. ``may_delete_pods``
    gives it a right that real installations mostly lack, so that ``stopPod`` works.
    """

    def __init__(
        self,
        kubeconfig: Path,
        speed: float,
        *,
        crd: Path | None = CRD,
        may_delete_pods: bool = False,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._client = KubeClient.from_kubeconfig(kubeconfig)
        self._crd = crd
        self._traps = Traps()
        self._work = Work(
            client=self._client,
            take_trap=self._take_trap,
            storage=kubeconfig.resolve().parent / "checkpoint-storage",
            speed=speed,
            build_seconds=BUILD_SECONDS,
            push_seconds=PUSH_SECONDS,
            may_delete_pods=may_delete_pods,
        )
        self._agents: dict[str, asyncio.Task[None]] = {}
        self._inboxes: dict[str, Agent] = {}
        self._known: dict[Key, Json] = {}
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Install the CRD and begin.

        Raises:
            TimeoutError: the API server does not serve it in time.
        """
        if self._crd:
            await self._install(self._crd)
        self._begin()

    async def stop(self) -> None:
        """End all agents."""
        await self._end()
        await self._client.close()

    async def play(
        self, trap: str, *, phase: str | None = None, count: int = 1, factor: float = 10.0, namespace: str | None = None
    ) -> None:
        """Play a trap (``traps.TRAPS``) on the next ``count`` CheckpointBackups of ``namespace``, or of any namespace.

        ``absent`` removes the operator with all its agents until ``present``.

        Raises:
            ValueError: the trap is unknown, or does not take these values.
        """
        if trap == ABSENT:
            self._cancel()
        elif trap == PRESENT:
            self._begin()
        else:
            self._traps.add(trap, phase, count, factor, namespace)

    def clear(self) -> None:
        """Forget the traps that wait, and be present."""
        self._traps.clear()
        self._begin()

    async def _take_trap(self, uid: str, namespace: str) -> Trap | None:
        return self._traps.take(uid, namespace)

    async def _install(self, file: Path) -> None:
        crd = yaml.safe_load(await asyncio.to_thread(file.read_text))
        path = f"{CRD_PATH}/{crd['metadata']['name']}"
        await self._client.apply(path, crd, manager=FIELD_MANAGER)
        async with asyncio.timeout(ESTABLISHED_SECONDS):
            while True:
                if _is_established(await self._client.get(path)):
                    return
                await asyncio.sleep(0.1)

    def _begin(self) -> None:
        if self._watches:
            return
        self._watches = [asyncio.create_task(self._follow_backups()), asyncio.create_task(self._follow_nodes())]
        self._add_agent(NodeAccess(OTHER_NODES, None, self._work.speed))

    def _cancel(self) -> list[asyncio.Task[None]]:
        tasks = [*self._watches, *self._agents.values()]
        for task in tasks:
            task.cancel()
        self._watches = []
        self._agents.clear()
        self._inboxes.clear()
        return tasks

    async def _end(self) -> None:
        await asyncio.gather(*self._cancel(), return_exceptions=True)

    async def _follow_backups(self) -> None:
        async for change in self._client.follow(COLLECTION):
            if change.type == "SYNC":
                there = {key_of(backup): backup for backup in change.object}
                for key in self._known.keys() - there.keys():
                    self._forget(key)
                for backup in there.values():
                    self._look_at(backup)
            elif change.type == "DELETED":
                self._forget(key_of(change.object))
            else:
                self._look_at(change.object)

    def _look_at(self, backup: Json) -> None:
        self._known[key_of(backup)] = backup
        for agent in self._inboxes.values():
            agent.look_at(backup)

    def _forget(self, key: Key) -> None:
        self._known.pop(key, None)
        for agent in self._inboxes.values():
            agent.forget(key)

    async def _follow_nodes(self) -> None:
        async for change in self._client.follow("/api/v1/nodes"):
            nodes = change.object if change.type == "SYNC" else [change.object]
            for node in nodes:
                self._match_agent(node, is_gone=change.type == "DELETED")
            if change.type == "SYNC":
                names = {node["metadata"]["name"] for node in nodes}
                for name in self._agents.keys() - names - {OTHER_NODES}:
                    self._remove_agent(name)

    def _match_agent(self, node: Json, *, is_gone: bool) -> None:
        """Start an agent once its node is Ready, and end it when the machine shuts down or the Node is deleted."""
        name = node["metadata"]["name"]
        conditions = node.get("status", {}).get("conditions", ())
        ready: Json = next((entry for entry in conditions if entry["type"] == "Ready"), {})
        if is_gone or "shutting down" in ready.get("message", ""):
            self._remove_agent(name)
        elif ready.get("status") == "True" and name not in self._agents:
            addresses = {entry["type"]: entry["address"] for entry in node["status"].get("addresses", ())}
            port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
            kubelet = KubeClient.from_kubeconfig(self._kubeconfig, kubelet=f"{addresses['InternalIP']}:{port}")
            self._add_agent(NodeAccess(name, kubelet, self._work.speed))

    def _add_agent(self, node: NodeAccess) -> None:
        agent = self._inboxes[node.name] = Agent(node, self._work)
        self._agents[node.name] = asyncio.create_task(self._run(node.name, agent))
        for backup in self._known.values():
            agent.look_at(backup)

    def _remove_agent(self, name: str) -> None:
        self._inboxes.pop(name, None)
        if task := self._agents.pop(name, None):
            task.cancel()

    async def _run(self, name: str, agent: Agent) -> None:
        try:
            await agent.run()
        except AgentDied as error:
            log.info("the agent died with its machine: %s", error)
            if self._inboxes.get(name) is agent:
                self._remove_agent(name)
        except Exception:
            log.exception("the agent of node %s failed", name)


def _is_established(crd: Json) -> bool:
    # Until the API server has looked at it this is null, not absent.
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)
