"""The settings of a sandbox: where it keeps its state, how fast its clock runs, which ports it uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Part = Literal["kubernetes", "temporal", "registry", "gce"]

PARTS: tuple[Part, ...] = get_args(Part)
"""All parts of a sandbox. ``gce`` is the emulated cloud with its VMs, and the checkpoint operator of their nodes."""

MachineKind = Literal["light", "real"]

TemporalService = Literal["development", "postgresql"]

TEMPORAL_SERVICES: tuple[TemporalService, ...] = get_args(TemporalService)
"""Temporal's development server, or its server for production on a PostgreSQL of its own."""

MACHINE_KINDS: tuple[MachineKind, ...] = get_args(MachineKind)
"""What a VM may be: a handful of servers on a loopback address, or namespaces of a Linux kernel."""

OCTETS = range(64, 192)
"""The second octets of 127/8 that sandboxes use for their VMs (127.N.Z.H), so that several can run side by side."""


@dataclass(frozen=True)
class Settings:
    """The settings of one sandbox. Durations are in seconds."""

    state_dir: Path = Path(".sandbox")
    """The directory for kubeconfigs, databases, logs and the file systems of the VMs."""

    parts: tuple[Part, ...] = PARTS
    """The parts to run. The VMs of ``gce`` join the cluster of ``kubernetes``; the product needs all parts."""

    kubeconfig: Path | None = None
    """An administrator's kubeconfig of an existing cluster: VMs join that instead of one of the sandbox's."""

    speed: float = 1.0
    """Emulated durations (boot, checkpoint, training step) are divided by this; notice windows are not."""

    octet: int = 0
    """VMs get addresses 127.<octet>.<zone>.<host>; 0 lets ``Cloud.up`` claim a free one of ``OCTETS``."""

    keep: bool = False
    """Keep etcd's and Temporal's data of the last run instead of starting with empty databases."""

    machines: MachineKind = "light"
    """What a VM is. Real ones need Linux and root. They have their own network, and use a VM's usual ports."""

    product: bool = False
    """Install Outlast itself: its CRDs, RBAC and node agent, and run its worker and bridge as child processes."""

    replicas: int = 1
    """How many workers and bridges run as child processes (``worker``, ``worker-2``, …); real machines have two."""

    product_env: Mapping[str, str] = field(default_factory=dict)
    """More environment variables for the worker and the bridge. They override our own ``OUTLAST_*`` variables."""

    ssh_port: int = 2222
    """The port of every VM's sshd; not 22, because only root may bind that."""

    metadata_port: int = 8080
    """The port of every VM's metadata server."""

    node_monitor_grace_period: float = 10.0
    """How long a node may be silent before the controller-manager marks it NotReady (Kubernetes' default: 50)."""

    temporal_service: TemporalService = "development"
    """Which Temporal server runs. That on PostgreSQL has to be built before, and needs PostgreSQL (`make service`)."""

    temporal_port: int = 0
    """The port of Temporal's frontend on 127.0.0.1; 0 takes a free one."""

    temporal_ui_port: int = 0
    """The port of Temporal's Web UI on 127.0.0.1; 0 takes a free one."""

    def __post_init__(self) -> None:
        """Resolve paths, and reject settings that cannot work.

        Raises:
            ValueError: a part lacks another, or a setting is out of range.
        """
        object.__setattr__(self, "state_dir", self.state_dir.expanduser().resolve())
        if self.kubeconfig:
            object.__setattr__(self, "kubeconfig", self.kubeconfig.expanduser().resolve())
        if unknown := set(self.parts) - set(PARTS):
            raise ValueError(f"no parts named {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
        if "gce" in self.parts and "kubernetes" not in self.parts:
            raise ValueError("the VMs of gce join the cluster of kubernetes: ask for both parts")
        if self.kubeconfig and "gce" not in self.parts:
            raise ValueError("without gce there are no VMs that could join the cluster of a kubeconfig")
        if self.product and set(self.parts) != set(PARTS):
            raise ValueError("the product needs all parts")
        if self.replicas < 1:
            raise ValueError(f"at least one worker and one bridge have to run, not {self.replicas}")
        if self.speed <= 0:
            raise ValueError(f"speed must be greater than 0, not {self.speed}")
        if self.machines not in MACHINE_KINDS:
            raise ValueError(f"no machines are called {self.machines}; there are: {', '.join(MACHINE_KINDS)}")
        if self.machines == "real":
            if self.kubeconfig:
                raise ValueError("real machines join the sandbox's own cluster: leave out the kubeconfig")
            if "gce" in self.parts and "registry" not in self.parts:
                raise ValueError("real machines pull their images from the registry: ask for that part, too")
            object.__setattr__(self, "ssh_port", 22)
            object.__setattr__(self, "metadata_port", 80)
            # Six kubelets on two processors are silent for seconds while they unpack an image.
            object.__setattr__(self, "node_monitor_grace_period", max(20.0, self.node_monitor_grace_period))
        if self.octet and self.octet not in OCTETS:
            raise ValueError(f"octet must be within {OCTETS.start}..{OCTETS.stop - 1}, not {self.octet}")

    @property
    def machine_network(self) -> str:
        """The first two octets of the VMs' addresses.

        Raises:
            ValueError: no octet has been claimed yet.
        """
        if self.machines == "real":
            return "10.128"
        if not self.octet:
            raise ValueError("settings.octet must be claimed before there are VMs")
        return f"127.{self.octet}"

    @property
    def logs(self) -> Path:
        """The directory with one log file for each process."""
        return self.state_dir / "logs"

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig of the cluster's administrator."""
        return self.state_dir / "admin.kubeconfig"

    @property
    def env_file(self) -> Path:
        """The file with KEY=VALUE lines of all addresses, for a shell to source."""
        return self.state_dir / "sandbox.env"

    def scaled(self, seconds: float) -> float:
        """Convert an emulated duration to real seconds."""
        return seconds / self.speed


def cache_dir() -> Path:
    """Return the directory of built binaries: ``OUTLAST_CACHE``, else ``outlast`` in ``XDG_CACHE_HOME`` or
    ``~/.cache``.
    """
    if chosen := os.environ.get("OUTLAST_CACHE"):
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outlast"
