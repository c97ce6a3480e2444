"""The pods of one node: watched at the API server, each run by its own worker."""

from __future__ import annotations

import asyncio
import logging

from sandbox.machines.light.kubelet.pod_worker import PodWorker
from sandbox.machines.light.kubelet.process import Json
from sandbox.machines.light.kubelet.runtime import Node

log = logging.getLogger(__name__)


class PodManager:
    """Follows the Pods bound to the node and keeps one worker for each."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._shutting_down = False

    async def run(self) -> None:
        """Follow the Pods for ever."""
        selector = f"spec.nodeName={self._node.name}"
        async for change in self._node.client.follow("/api/v1/pods", fieldSelector=selector):
            if change.type == "SYNC":
                for pod in change.object:
                    await self._handle(pod)
                for uid in self._workers.keys() - {pod["metadata"]["uid"] for pod in change.object}:
                    self._forget(uid)
            elif change.type == "DELETED":
                self._forget(change.object["metadata"]["uid"])
            else:
                await self._handle(change.object)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """Return the worker of the Pod with this name."""
        return next((w for w in self._workers.values() if w.name == f"{namespace}/{name}"), None)

    @property
    def pods(self) -> list[Json]:
        """The Pods as they were last seen."""
        return [worker.pod for worker in self._workers.values()]

    async def shut_down(self, grace: float, critical_grace: float) -> None:
        """End all pods, critical ones last, and refuse new ones. Graces are in real seconds."""
        self._shutting_down = True
        for is_critical, seconds in ((False, grace), (True, critical_grace)):
            workers = [w for w in self._workers.values() if w.is_critical == is_critical]
            await asyncio.gather(*(worker.shut_down(seconds) for worker in workers))

    async def kill(self) -> None:
        """End all processes at once, and report nothing to the API server or to anybody else."""
        for worker in self._workers.values():
            worker.vanish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        containers = [container for worker in self._workers.values() for container in worker.containers]
        await asyncio.gather(*(container.dead() for container in containers))

    async def _handle(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._workers:
            await self._workers[uid].update(pod)
            return
        worker = self._workers[uid] = PodWorker(pod, self._node)
        if self._shutting_down:
            worker.reject()
        await worker.update(pod)
        task = asyncio.create_task(self._run(worker), name=f"pod {worker.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("the worker of pod %s failed", worker.name)

    def _forget(self, uid: str) -> None:
        if worker := self._workers.pop(uid, None):
            worker.forget()
