"""What a kubelet of a light machine is configured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class KubeletConfig:
    """The configuration of one node's kubelet, after ``kubeadm join`` and the kubelet's own flags."""

    node_name: str
    address: str
    """The machine's loopback address, where the kubelet serves."""

    api_server: str
    """The URL of the API server."""

    ca_file: Path
    client_cert_file: Path
    client_key_file: Path

    root: Path
    """The machine's directory, its file system."""

    gpu_count: int = 0
    provider_id: str | None = None
    node_labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for containers that run as real processes, beside their own."""

    shutdown_grace: float = 0.0
    """``shutdownGracePeriod`` in seconds. 0 is Kubernetes' default: pods are not told that the machine goes down."""

    speed: float = 1.0
    """Emulated durations are divided by it; grace periods are not."""
