"""What the pods of one node share, and what a container knows of its pod."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient
from sandbox.machines.light.kubelet.images import ImageStore
from sandbox.machines.light.kubelet.process import Json
from sandbox.machines.light.kubelet.volumes import PodSources

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The pod is being stopped, so nothing of it is started any more."""


@dataclass(frozen=True)
class Node:
    """The node's side: its identity, its file system and its clock."""

    name: str
    address: str
    client: KubeClient
    ca_file: Path
    root: Path
    environment: Mapping[str, str]
    """Environment variables for containers that run as real processes, beside their own."""
    speed: float
    images: ImageStore
    sources: PodSources

    def scaled(self, seconds: float) -> float:
        """Convert an emulated duration to real seconds."""
        return seconds / self.speed


@dataclass
class PodContext:
    """The pod's side, shared by its containers."""

    pod: Json
    node: Node
    changed: Callable[[], None]
    """Called whenever a container's state changes."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    mounts: dict[str, Path] = field(default_factory=dict)
    """The directory of each volume, by its name."""

    @property
    def directory(self) -> Path:
        """The pod's directory on the node."""
        return self.node.root / "var/lib/kubelet/pods" / str(self.pod["metadata"]["uid"])

    def log_path(self, container: str, restarts: int) -> Path:
        """Return the log file of one run of a container."""
        metadata = self.pod["metadata"]
        name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return self.node.root / "var/log/pods" / name / container / f"{restarts}.log"

    async def pause(self, seconds: float) -> None:
        """Wait for an emulated duration.

        Raises:
            Stopped: the pod is being stopped.
        """
        try:
            await asyncio.wait_for(self.stopping.wait(), self.node.scaled(seconds))
        except TimeoutError:
            return
        raise Stopped


def now() -> str:
    """Return the time as Kubernetes writes it in a status."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def write_event(context: PodContext, reason: str, note: str) -> None:
    """Write an Event of a pod. If that fails it is lost, as a kubelet's is."""
    metadata, node = context.pod["metadata"], context.node.name
    body = {
        "metadata": {"name": f"{metadata['name'][:200]}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": "kubelet",
        "reportingInstance": node,
        "action": reason,
        "reason": reason,
        "type": "Normal",
        "note": note,
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            **{key: metadata[key] for key in ("name", "namespace", "uid")},
        },
    }
    try:
        await context.node.client.create(f"/apis/events.k8s.io/v1/namespaces/{metadata['namespace']}/events", body)
    except (ApiError, *UNREACHABLE) as error:
        log.warning("%s: Event %s: %s", metadata["name"], reason, error)
