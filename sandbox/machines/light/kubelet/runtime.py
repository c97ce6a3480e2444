"""What the pods of one node share, and what a container is told of its pod."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sandbox.kube_client import KubeClient
from sandbox.machines.light.kubelet.images import ImageStore
from sandbox.machines.light.kubelet.process import Json
from sandbox.machines.light.kubelet.volumes import PodSources


class Stopped(Exception):
    """The pod is being stopped: nothing of it is started any more."""


@dataclass(frozen=True)
class Node:
    """The node's side: its identity, its file system and its clock."""

    name: str
    address: str
    client: KubeClient
    ca_file: Path
    root: Path
    environment: Mapping[str, str]
    """Given to containers that run as real processes, beside their own."""
    speed: float
    images: ImageStore
    sources: PodSources

    def scaled(self, seconds: float) -> float:
        """The wall-clock seconds that an emulated duration takes."""
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
    """Where each volume is, by its name."""

    @property
    def directory(self) -> Path:
        """The pod's directory on the node."""
        return self.node.root / "var/lib/kubelet/pods" / str(self.pod["metadata"]["uid"])

    def log_path(self, container: str, restarts: int) -> Path:
        """The log file of one run of a container."""
        metadata = self.pod["metadata"]
        name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return self.node.root / "var/log/pods" / name / container / f"{restarts}.log"

    async def pause(self, seconds: float) -> None:
        """Wait for an emulated duration. Raises Stopped as soon as the pod is being stopped."""
        try:
            await asyncio.wait_for(self.stopping.wait(), self.node.scaled(seconds))
        except TimeoutError:
            return
        raise Stopped


def now() -> str:
    """The time, as Kubernetes writes it in a status."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
