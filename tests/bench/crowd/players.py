"""Kubelets and the checkpoint operator of a crowd, played by watches and writes of status.

Real ones would share the processors with what is measured. What they write is what theirs would be, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from api import names
from clients.kube import path
from sandbox.kube_client import UNREACHABLE, ApiError, Json, KubeClient

DUMP_SECONDS = 10.0
"""As long as a training of 1 GB takes on real machines (docs/benchmarks.md)."""
ATTEMPTS = 20
PAUSE = 0.3


@dataclass(frozen=True)
class Pod:
    """A pod of the crowd, as it was last seen; ``job`` is the id of its workflow."""

    job: str
    replica: str
    node: str
    phase: str


class Players:
    """Runs each pod that is bound to a node of the crowd, and completes each CheckpointBackup.

    ``pods`` are those that exist, by name; ``backups`` says for each job when each of its CheckpointBackups was seen.
    """

    def __init__(self, kube: KubeClient, namespace: str, nodes: str) -> None:
        """Play in ``namespace``, on the nodes whose names begin with ``nodes``."""
        self.pods: dict[str, Pod] = {}
        self.backups: dict[str, dict[str, float]] = {}
        self._kube = kube
        self._namespace = namespace
        self._nodes = nodes
        self._begun: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to watch."""
        checkpoints = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
        self._do(self._follow(path("v1", "pods", self._namespace), self._see_pod))
        self._do(self._follow(path(checkpoints, names.CHECKPOINT_PLURAL, self._namespace), self._see_backup))

    async def stop(self) -> None:
        """Leave everything as it is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def running(self) -> int:
        """Count the pods that run."""
        return sum(pod.phase == "Running" for pod in self.pods.values())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, collection: str, see: Any) -> None:
        async for change in self._kube.follow(collection):
            for item in change.object if change.type == "SYNC" else [change.object]:
                see(item, change.type == "DELETED")

    def _see_pod(self, item: Json, gone: bool) -> None:
        metadata, name, node = item["metadata"], item["metadata"]["name"], item["spec"].get("nodeName", "")
        if gone:
            self.pods.pop(name, None)
            return
        replica, phase = (metadata.get("labels") or {}).get(names.LABEL_REPLICA, ""), item["status"].get("phase", "")
        self.pods[name] = Pod(_job(item), replica, node, phase)
        if not node.startswith(self._nodes):
            return
        if "deletionTimestamp" in metadata:
            self._do(self._end(name))
        elif phase == "Pending" and name not in self._begun:
            self._begun.add(name)
            self._do(self._run(name))

    async def _run(self, name: str) -> None:
        now = _now()
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        container = {"name": "train", "ready": True, "started": True, "restartCount": 0, "image": "x", "imageID": "x"}
        running = {"containerStatuses": [{**container, "state": {"running": {"startedAt": now}}}]}
        status = {"phase": "Running", "startTime": now, "conditions": [ready], **running}
        await self._insist("PATCH", path("v1", "pods", self._namespace, name, "status"), {"status": status})

    async def _end(self, name: str) -> None:
        await self._insist("DELETE", path("v1", "pods", self._namespace, name), {"gracePeriodSeconds": 0})

    def _see_backup(self, item: Json, gone: bool) -> None:
        metadata = item["metadata"]
        seen = self.backups.setdefault(_job(item), {})
        if not gone and metadata["name"] not in seen:
            seen[metadata["name"]] = time.monotonic()
            self._do(self._dump(item))

    async def _dump(self, item: Json) -> None:
        await asyncio.sleep(DUMP_SECONDS)
        built = [
            {"containerName": each["name"], "imageName": each["image"], "pushed": True, "buildTime": _now()}
            for each in item["spec"]["containers"]
        ]
        version = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
        where = path(version, names.CHECKPOINT_PLURAL, self._namespace, item["metadata"]["name"], "status")
        await self._insist("PATCH", where, {"status": {"phase": "Completed", "builtImages": built}})

    async def _insist(self, method: str, where: str, body: Json) -> None:
        """Repeat a call that is not answered; one that is refused is not needed any more."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        for _ in range(ATTEMPTS):
            with contextlib.suppress(*UNREACHABLE):
                with contextlib.suppress(ApiError):
                    await self._kube.call(method, where, body, content_type=kind)
                return
            await asyncio.sleep(PAUSE)


def _job(item: Json) -> str:
    return str((item["metadata"].get("annotations") or {}).get(names.ANNOTATION_WORKFLOW, ""))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
