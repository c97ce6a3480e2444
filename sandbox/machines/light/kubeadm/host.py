"""What kubeadm finds on the machine on which it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

KUBELET_CONF = Path("etc/kubernetes/kubelet.conf")
BOOTSTRAP_CONF = Path("etc/kubernetes/bootstrap-kubelet.conf")
CA_CRT = Path("etc/kubernetes/pki/ca.crt")
MANIFESTS = Path("etc/kubernetes/manifests")
KUBELET_CONFIG = Path("var/lib/kubelet/config.yaml")
KUBELET_FLAGS = Path("var/lib/kubelet/kubeadm-flags.env")
CLIENT_PEM = Path("var/lib/kubelet/pki/kubelet-client-current.pem")
"""The files that a join writes, relative to the machine's root."""

CONTAINERD = Path("var/run/containerd/containerd.sock")
_RUNTIMES = (CONTAINERD, Path("var/run/crio/crio.sock"), Path("var/run/cri-dockerd.sock"))
"""The sockets by which kubeadm knows the container runtimes of a machine."""

Print = Callable[[str], None]


class KubeletService(Protocol):
    """The machine's kubelet.service."""

    @property
    def active(self) -> bool:
        """True if it runs."""

    async def start(self) -> None:
        """Start it with the configuration on the machine's disk; returns once its Node is registered.

        Raises:
            RuntimeError: it does not come up; the message says why.
        """

    async def stop(self) -> None:
        """Stop it."""


@dataclass(frozen=True)
class Host:
    """One machine. ``scaled`` turns emulated seconds into real ones."""

    root: Path
    hostname: str
    kubelet: KubeletService
    scaled: Callable[[float], float]
    about_to_join: Callable[[str], Awaitable[None]]
    """Called with the bootstrap token before it is used."""
    clock_behind: timedelta = timedelta()

    def now(self) -> datetime:
        """Return the time that its clock shows."""
        return datetime.now(UTC) - self.clock_behind

    def resolve(self, path: str, cwd: Path) -> Path:
        """Return the file that a program on the machine means by ``path``."""
        if not path.startswith("/"):
            return cwd / path
        given = Path(path)
        return given if given.is_relative_to(self.root) else self.root / path.lstrip("/")


class KubeadmError(Exception):
    """kubeadm gives up with this message. ``code`` is 2 for preflight checks, 3 for a bad configuration, else 1."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def install_containerd(root: Path) -> None:
    """Put containerd's socket where every machine has it."""
    (root / CONTAINERD).parent.mkdir(parents=True, exist_ok=True)
    (root / CONTAINERD).touch()


def check_runtime(root: Path, wanted: str) -> None:
    """Find the container runtime.

    Raises:
        KubeadmError: there are several and none is named, or the named one does not exist.
    """
    found = [f"unix:///{path}" for path in _RUNTIMES if (root / path).exists()]
    if wanted:
        if not (root / wanted.removeprefix("unix://").lstrip("/")).exists():
            raise KubeadmError(
                "error execution phase preflight: [preflight] Some fatal errors occurred:\n"
                f"\t[ERROR CRI]: could not connect to the container runtime: failed to create new CRI runtime service: "
                f"dial unix {wanted.removeprefix('unix://')}: connect: no such file or directory",
                2,
            )
        return
    if len(found) > 1:
        raise KubeadmError(
            "found multiple CRI endpoints on the host. Please define which one do you wish to use by setting the "
            f"'criSocket' field in the kubeadm configuration file: {', '.join(found)}"
        )
