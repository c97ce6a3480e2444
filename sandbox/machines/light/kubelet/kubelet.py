"""The kubelet of a light machine: how its parts are put together, and how it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sandbox.kube_client import KubeClient
from sandbox.machines.light.kubelet.config import KubeletConfig
from sandbox.machines.light.kubelet.images import ImageStore
from sandbox.machines.light.kubelet.node import NodeObject
from sandbox.machines.light.kubelet.pods import PodManager
from sandbox.machines.light.kubelet.runtime import Node
from sandbox.machines.light.kubelet.server import KubeletServer
from sandbox.machines.light.kubelet.volumes import PodSources

log = logging.getLogger(__name__)

CRITICAL_SECONDS = 5.0
"""How much of the shutdown's time ``shutdownGracePeriodCriticalPods`` reserves for critical pods."""


class Kubelet:
    """One node's kubelet, which runs inside the sandbox with the identity that the node's join obtained."""

    def __init__(self, config: KubeletConfig) -> None:
        self._shutdown_grace = config.shutdown_grace
        self._client = KubeClient.with_certificate(
            config.api_server, config.ca_file, config.client_cert_file, config.client_key_file
        )
        node = Node(
            name=config.node_name,
            address=config.address,
            client=self._client,
            ca_file=config.ca_file,
            root=config.root,
            environment=config.environment,
            speed=config.speed,
            images=ImageStore(self._client),
            sources=PodSources(self._client, config.address),
        )
        self._object = NodeObject(self._client, config)
        self._pods = PodManager(node)
        self._server = KubeletServer(node, self._pods)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Serve, register the Node, then send heartbeats and run pods in the background.

        Raises:
            OSError: the address is taken.
            TimeoutError: the node cannot register within a minute.
        """
        await self._server.start()
        await self._object.register()
        self._tasks = [
            asyncio.create_task(self._forever("node", self._object)),
            asyncio.create_task(self._forever("pods", self._pods)),
        ]

    async def shutdown(self, grace: float) -> None:
        """Shut the node down gracefully: pods are told to end, critical ones last.

        Returns when all have ended, or after ``grace`` real seconds (or the shutdown grace period, if shorter).
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
        """Die at once: every process is gone, nothing answers, and no further call is made."""
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
