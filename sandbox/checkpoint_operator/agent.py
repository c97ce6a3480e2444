"""The operator's agent on one node: it serves the pods of its own node, one CheckpointBackup at a time.

Each agent reads every CheckpointBackup of the cluster, and any agent may add or remove the finalizer. Like a
controller, it knows them from a watch: what it writes on top of an outdated version is refused, and it looks again. The
agent ends with its node, and the phase of what it was doing stays as it was.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.checkpoint_operator import phases
from sandbox.checkpoint_operator.backup import Backup, Key, key_of
from sandbox.checkpoint_operator.container_run import ContainerRun, Stuck, Unable
from sandbox.checkpoint_operator.image import RegistryAccess
from sandbox.checkpoint_operator.node_access import NodeAccess
from sandbox.checkpoint_operator.traps import SILENT, Trap
from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient

log = logging.getLogger(__name__)

Json = dict[str, Any]

DEFAULT_SECRET = {"name": "registry-credentials", "namespace": "stateful-migration"}
FIRST_RETRY = 0.005
LONGEST_RETRY = 30.0
"""Seconds of real time, as in a controller's rate limiter: two agents often write the same object at once."""
CRON = re.compile(r"\S+(\s+\S+){4}")


@dataclass(frozen=True)
class Work:
    """What all agents share. Durations are emulated ones, divided by ``speed``."""

    client: KubeClient
    take_trap: Callable[[str, str], Awaitable[Trap | None]]
    """Returns the trap of the CheckpointBackup with this UID, in this namespace."""
    storage: Path
    speed: float
    build_seconds: float
    push_seconds: float
    may_delete_pods: bool


class Agent:
    """Runs on one node."""

    def __init__(self, node: NodeAccess, work: Work) -> None:
        self._node = node
        self._work = work
        self._registry: RegistryAccess | None = None
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._latest: dict[Key, Json] = {}
        self._failures: dict[Key, int] = {}

    def look_at(self, backup: Json) -> None:
        """Take note of a CheckpointBackup that is new or was changed."""
        key = key_of(backup)
        self._keep(key, backup)
        self._enqueue(key)

    def forget(self, key: Key) -> None:
        """Take note that a CheckpointBackup was deleted."""
        self._latest.pop(key, None)
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Work for ever.

        Raises:
            AgentDied: the machine went down.
        """
        try:
            while True:
                key = await self._queue.get()
                self._queued.discard(key)
                backup = Backup(self._work.client, self._latest[key]) if key in self._latest else None
                if backup is None or self._is_done(backup):
                    continue
                await self._node.check()
                try:
                    await self._reconcile(backup)
                    self._failures.pop(key, None)
                except Stuck as error:
                    log.info("CheckpointBackup %s/%s: %s", *key, error)
                except (Unable, ApiError, *UNREACHABLE) as error:
                    log.info("CheckpointBackup %s/%s: %s", *key, error)
                    if isinstance(error, ApiError) and error.status == 404:
                        self.forget(key)
                    else:
                        self._retry(key)
                # The watch may bring this agent's own writes only after its next look.
                if key in self._latest:
                    self._keep(key, backup.object)
        finally:
            await self._node.close()

    def _keep(self, key: Key, backup: Json) -> None:
        known = self._latest.get(key)
        if known is None or _version(backup) >= _version(known):
            self._latest[key] = backup

    def _enqueue(self, key: Key) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    def _retry(self, key: Key) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(FIRST_RETRY * 2.0 ** (failures - 1), LONGEST_RETRY)
        asyncio.get_running_loop().call_later(delay, self._enqueue, key)

    def _is_done(self, backup: Backup) -> bool:
        """True if no agent, on any node, has anything left to do for it."""
        if backup.is_being_deleted or not backup.has_finalizer:
            return False
        return _has_run(backup) and (self._registry is not None or "registry" not in backup.spec)

    async def _reconcile(self, backup: Backup) -> None:
        # This comes first: with a bad Secret neither a finalizer nor a status is ever written.
        await self._find_registry(backup.spec)
        await backup.add_finalizer()
        if backup.is_being_deleted:
            await backup.remove_finalizer()
            return
        if _has_run(backup):
            return
        pod = await self._pod(backup.spec["podRef"])
        if pod is None or pod["spec"].get("nodeName") != self._node.name:
            return
        schedule = backup.spec["schedule"]
        if schedule != "immediately" and not CRON.fullmatch(schedule):
            raise Unable(f'schedule {schedule!r} is neither five cron fields nor "immediately"')
        if pod["status"].get("phase") == "Running":
            await self._perform(backup, pod)

    async def _find_registry(self, spec: Json) -> None:
        """Read the credentials of the first CheckpointBackup that names a registry, and keep them.

        Raises:
            Unable: the Secret does not exist, or lacks a field.
        """
        if self._registry or "registry" not in spec:
            return
        wanted = spec["registry"].get("secretRef") or DEFAULT_SECRET
        namespace = wanted.get("namespace") or DEFAULT_SECRET["namespace"]
        try:
            secret = await self._work.client.get(f"/api/v1/namespaces/{namespace}/secrets/{wanted['name']}")
        except ApiError as error:
            raise Unable(f"registry secret {namespace}/{wanted['name']}: {error}") from error
        data = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        if not data.get("username") or not data.get("password"):
            raise Unable(f"registry secret {namespace}/{wanted['name']} lacks username or password")
        url = spec["registry"]["url"] or data.get("registry") or "docker.io"
        self._registry = RegistryAccess(url, data["username"], data["password"])

    async def _pod(self, reference: Json) -> Json | None:
        # Without a namespace the pod is not found, and nobody is told.
        if not reference.get("namespace"):
            return None
        try:
            return await self._work.client.get(f"/api/v1/namespaces/{reference['namespace']}/pods/{reference['name']}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _perform(self, backup: Backup, pod: Json) -> None:
        trap = await self._work.take_trap(backup.uid, backup.namespace)
        if trap and trap.kind == SILENT:
            raise Stuck(f"played: {SILENT}")
        containers = backup.spec.get("containers") or []
        if not containers and "registry" not in backup.spec:
            containers = [{"name": container["name"], "image": ""} for container in pod["spec"]["containers"]]
        for container in containers:
            await ContainerRun(
                node=self._node,
                registry=self._registry,
                backup=backup,
                pod=pod,
                container=container["name"],
                wanted_image=container["image"],
                trap=trap,
                storage=self._work.storage,
                build_seconds=self._work.build_seconds,
                push_seconds=self._work.push_seconds,
            ).run()
        await self._node.check()
        await backup.set_phase(phases.COMPLETED, f"Checkpointed {len(containers)} of {len(containers)} containers")
        if backup.spec.get("stopPod"):
            await self._stop_pod(backup, pod)

    async def _stop_pod(self, backup: Backup, pod: Json) -> None:
        metadata = pod["metadata"]
        if not self._work.may_delete_pods:
            message = f"Pod not deleted: pods {metadata['name']!r} is forbidden for the agent's service account"
            await backup.set_phase(phases.COMPLETED_WITH_ERROR, message)
            return
        await self._work.client.delete(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}")
        await backup.set_phase(phases.COMPLETED_POD_DELETED, "Checkpointed, and the pod was deleted")


def _version(backup: Json) -> int:
    # Versions can be compared within one object.
    return int(backup["metadata"]["resourceVersion"])


def _has_run(backup: Backup) -> bool:
    """True if its checkpoint was made: a cron schedule runs at once, too, but never again unless it Failed."""
    return bool(backup.phase) and (backup.spec["schedule"] == "immediately" or backup.phase != phases.FAILED)
