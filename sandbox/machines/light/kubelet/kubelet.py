"""The kubelet of a light machine: wiring, and how it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.kube_client import KubeClient
from sandbox.machines.light.kubelet.images import ImageStore
from sandbox.machines.light.kubelet.node import NodeObject
from sandbox.machines.light.kubelet.pods import PodManager
from sandbox.machines.light.kubelet.runtime import Node
from sandbox.machines.light.kubelet.server import KubeletServer
from sandbox.machines.light.kubelet.volumes import PodSources

log = logging.getLogger(__name__)

PORT = 10250
CAPACITY = {"cpu": "12", "memory": "85Gi", "pods": "110", "ephemeral-storage": "100Gi"}
CRITICAL_SECONDS = 5.0
"""What `shutdownGracePeriodCriticalPods` keeps of the shutdown's time for critical pods."""


class Kubelet:
    """One node's kubelet, running inside the sandbox with the identity that the node's join obtained.

    `root` is the machine's directory, its file system. `environment` is given to containers that run as real
    processes. `shutdown_grace` is the configured `shutdownGracePeriod` in seconds: 0, Kubernetes' default, means
    that pods are told nothing when the machine goes down. Emulated durations are divided by `speed`, graces not.
    """

    def __init__(
        self,
        node_name: str,
        address: str,
        api_server: str,
        ca_file: Path,
        client_cert_file: Path,
        client_key_file: Path,
        gpu_count: int,
        provider_id: str | None,
        node_labels: Mapping[str, str],
        taints: Sequence[Mapping[str, str]],
        root: Path,
        environment: Mapping[str, str],
        speed: float,
        shutdown_grace: float,
        registry_plain_http: bool = True,
        port: int = PORT,
        capacity: Mapping[str, str] = CAPACITY,
    ) -> None:
        self._client = KubeClient.with_certificate(api_server, ca_file, client_cert_file, client_key_file)
        self._shutdown_grace = shutdown_grace
        node = Node(
            name=node_name,
            address=address,
            client=self._client,
            ca_file=ca_file,
            root=root,
            environment=environment,
            speed=speed,
            images=ImageStore(self._client, registry_plain_http),
            sources=PodSources(self._client, address),
        )
        self._object = NodeObject(
            self._client,
            node_name,
            address,
            port,
            gpu_count=gpu_count,
            provider_id=provider_id,
            labels=node_labels,
            taints=taints,
            capacity=capacity,
            speed=speed,
        )
        self._pods = PodManager(node)
        self._server = KubeletServer(node, self._pods, port)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Serve, register the Node, then heartbeat and run pods in the background.

        Raises OSError where the address is taken, TimeoutError where the node cannot register within a minute.
        """
        await self._server.start()
        await self._object.register()
        self._tasks = [
            asyncio.create_task(self._forever("node", self._object)),
            asyncio.create_task(self._forever("pods", self._pods)),
        ]

    async def shutdown(self, grace: float) -> None:
        """Shut the node down gracefully: pods are told and end, critical ones last.

        Returns when all have ended, or after `grace` real seconds (or the shutdown grace period, if shorter).
        """
        limit = min(grace, self._shutdown_grace)
        if limit <= 0:
            return
        critical = min(CRITICAL_SECONDS, limit / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._object.say_shutting_down()
                await self._pods.shut_down(limit - critical, critical)

    async def kill(self) -> None:
        """Die at once: nothing is answered, no further call is made, every process is gone."""
        await self._client.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pods.kill()
        await self._server.stop()

    async def _forever(self, what: str, part: NodeObject | PodManager) -> None:
        try:
            await part.run()
        except Exception:
            log.exception("the kubelet's %s loop failed", what)
