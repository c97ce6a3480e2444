"""What a kubeadm finds on the machine that it runs on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

#: Files that a join writes, relative to the machine's root.
KUBELET_CONF = Path("etc/kubernetes/kubelet.conf")
BOOTSTRAP_CONF = Path("etc/kubernetes/bootstrap-kubelet.conf")
CA_CRT = Path("etc/kubernetes/pki/ca.crt")
MANIFESTS = Path("etc/kubernetes/manifests")
KUBELET_CONFIG = Path("var/lib/kubelet/config.yaml")
KUBELET_FLAGS = Path("var/lib/kubelet/kubeadm-flags.env")
CLIENT_PEM = Path("var/lib/kubelet/pki/kubelet-client-current.pem")

Print = Callable[[str], None]


class KubeletService(Protocol):
    """The machine's kubelet.service."""

    @property
    def active(self) -> bool:
        """Whether it runs."""

    async def start(self) -> None:
        """Start it with the configuration on the machine's disk; returns once its Node is registered.

        Raises:
            RuntimeError: when it does not come up; the message says why.
        """

    async def stop(self) -> None:
        """Stop it."""


@dataclass(frozen=True)
class Host:
    """One machine. `scaled` turns emulated seconds into real ones."""

    root: Path
    hostname: str
    kubelet: KubeletService
    scaled: Callable[[float], float]
    about_to_join: Callable[[str], Awaitable[None]]
    """Called with the bootstrap token before it is used."""
    clock_behind: timedelta = timedelta()

    def now(self) -> datetime:
        """What its clock says."""
        return datetime.now(UTC) - self.clock_behind

    def resolve(self, path: str, cwd: Path) -> Path:
        """The file that a program on the machine means by `path`."""
        if not path.startswith("/"):
            return cwd / path
        given = Path(path)
        return given if given.is_relative_to(self.root) else self.root / path.lstrip("/")


class KubeadmError(Exception):
    """kubeadm gives up: the message goes to stderr; `code` is 1, 2 for preflight checks, 3 for a bad configuration."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
