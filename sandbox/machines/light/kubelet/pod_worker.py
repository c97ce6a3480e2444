"""One pod's life on a node: its volumes, its containers, its status at the API server, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from sandbox.kube_client import STRATEGIC_MERGE, UNREACHABLE, ApiError
from sandbox.machines.light.kubelet.container import RETRY_SECONDS, Container, init_containers
from sandbox.machines.light.kubelet.pod_status import (
    NODE_SHUTDOWN,
    NODE_SHUTTING_DOWN,
    TERMINAL,
    PodStatus,
    Verdict,
    gates,
)
from sandbox.machines.light.kubelet.process import Json
from sandbox.machines.light.kubelet.runtime import Node, PodContext, Stopped
from sandbox.machines.light.kubelet.volumes import MissingSource, unmount

log = logging.getLogger(__name__)

CRITICAL_PRIORITY = 2_000_000_000
"""Pods with at least this priority (system-cluster-critical) are the last to be stopped when a node shuts down."""
CALL_RETRY_SECONDS = 1.0


class PodWorker:
    """Runs one pod. ``update`` is called when the Pod was changed, and ``run`` ends with the Pod."""

    def __init__(self, pod: Json, node: Node) -> None:
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._dirty = asyncio.Event()
        self._context = PodContext(pod, node, self._dirty.set)
        self.containers = [Container(spec, self._context) for spec in pod["spec"]["containers"]]
        self._inits = [Container(spec, self._context, init=True) for spec in init_containers(pod)]
        self._status = PodStatus(self._context, self.containers, self._inits)
        self._verdict: Verdict | None = None
        self._ended = asyncio.Event()
        self._delete = asyncio.Event()
        self._told = asyncio.Event()
        self._is_gone = False

    @property
    def pod(self) -> Json:
        """The Pod as it was last seen."""
        return self._context.pod

    @property
    def is_critical(self) -> bool:
        """True if the pod is stopped after all others when its node shuts down."""
        return bool(self.pod["spec"].get("priority", 0) >= CRITICAL_PRIORITY)

    @property
    def context(self) -> PodContext:
        """What the pod's containers share."""
        return self._context

    def container(self, name: str) -> Container | None:
        """Return one of its containers."""
        return next((container for container in self._all if container.name == name), None)

    @property
    def _all(self) -> list[Container]:
        return [*self._inits, *self.containers]

    async def run(self) -> None:
        """Run the pod to its end and report to the API server; returns once the Pod is deleted or forgotten."""
        if self.pod.get("status", {}).get("phase") not in TERMINAL:
            reporter = asyncio.create_task(self._report_changes())
            try:
                await self._live()
                await reporter
            finally:
                reporter.cancel()
                self.kill()
        self._told.set()
        await self._delete.wait()
        unmount(self._context.directory)
        await self._insist(self._delete_pod)

    async def update(self, pod: Json) -> None:
        """Take note of a changed Pod: new labels for its volumes, or its deletion."""
        before, self._context.pod = self._context.pod, pod
        old, new = before["metadata"], pod["metadata"]
        if gates(before) != gates(pod):
            self._dirty.set()
        if "deletionTimestamp" in new:
            self._delete.set()
            self.stop(new.get("deletionGracePeriodSeconds", 0))
        elif any(old.get(field) != new.get(field) for field in ("labels", "annotations")):
            with contextlib.suppress(MissingSource, ApiError, *UNREACHABLE):
                await self._mount()

    def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` real seconds; if it is called again, the shorter grace counts."""
        if not self._context.stopping.is_set():
            self._context.stopping.set()
            for container in self._all:
                container.terminate()
        asyncio.get_running_loop().call_later(grace, self.kill)

    async def shut_down(self, grace: float) -> None:
        """End the pod because its node goes down; returns once it has ended and the API server knows."""
        if self._ended.is_set():
            return
        self._verdict = NODE_SHUTDOWN
        self.stop(min(grace, self.pod["spec"].get("terminationGracePeriodSeconds", 30)))
        await self._told.wait()

    def reject(self) -> None:
        """Refuse a pod that comes while the node goes down; called before ``run``."""
        self._verdict = NODE_SHUTTING_DOWN
        self._context.stopping.set()

    def forget(self) -> None:
        """End what is left of a Pod that the API server has deleted, and report nothing more."""
        self._is_gone = True
        self._delete.set()
        self.stop(0)

    def kill(self) -> None:
        """Send SIGKILL to everything that runs."""
        for container in self._all:
            container.kill()

    def vanish(self) -> None:
        """End everything that runs, as a machine does that loses its power: nobody hears of it."""
        for container in self._all:
            container.vanish()

    async def _live(self) -> None:
        """Mount the volumes and run the containers until none will run again."""
        try:
            self._dirty.set()
            await self._mount_when_possible()
            if not await self._initialize():
                self._end()
                return
            async with asyncio.TaskGroup() as group:
                for container in self.containers:
                    group.create_task(self._run_container(container))
        except Stopped:
            pass
        for container in self.containers:
            container.end_unstarted()
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._dirty.set()

    async def _initialize(self) -> bool:
        """Run the init containers one after the other; False if one failed for good.

        Raises:
            Stopped: the pod is being stopped.
        """
        for container in self._inits:
            await container.run()
            if self._context.stopping.is_set():
                raise Stopped
            if container.exit_code:
                return False
        return True

    async def _run_container(self, container: Container) -> None:
        try:
            await container.run()
        except Stopped:
            log.debug("%s: %s was stopped before it ran", self.name, container.name)

    async def _mount_when_possible(self) -> None:
        while True:
            if self._context.stopping.is_set():
                raise Stopped
            try:
                await self._mount()
                return
            except (MissingSource, ApiError, *UNREACHABLE) as error:
                log.info("%s: FailedMount: %s", self.name, error)
            await self._context.pause(RETRY_SECONDS)

    async def _mount(self) -> None:
        directory = self._context.directory / "volumes"
        self._context.mounts = await self._context.node.sources.mount(self.pod, directory)

    async def _report_changes(self) -> None:
        """Report every change to the API server; returns once it knows of the pod's end."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            is_last = self._ended.is_set()
            await self._insist(self._report)
            if is_last:
                return

    async def _report(self) -> None:
        status = self._status.build(ended=self._ended.is_set(), verdict=self._verdict)
        # The UID is a precondition: a later Pod of the same name is not ours.
        body = {"metadata": {"uid": self.uid}, "status": status}
        await self._context.node.client.patch(f"{self._path}/status", body, STRATEGIC_MERGE)

    async def _delete_pod(self) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._context.node.client.delete(self._path, options)

    async def _insist(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call the API server until it answers; if the Pod is gone or is another one, that is an answer, too."""
        while not self._is_gone:
            try:
                await call()
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                log.warning("%s: %s", self.name, error)
            except UNREACHABLE as error:
                log.debug("%s: %s", self.name, error)
            await asyncio.sleep(CALL_RETRY_SECONDS)
