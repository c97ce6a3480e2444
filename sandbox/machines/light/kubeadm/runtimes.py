"""The container runtimes of a machine, by their sockets, as kubeadm looks for them."""

from __future__ import annotations

from pathlib import Path

from sandbox.machines.light.kubeadm.host import KubeadmError

CONTAINERD = Path("var/run/containerd/containerd.sock")
_KNOWN = (CONTAINERD, Path("var/run/crio/crio.sock"), Path("var/run/cri-dockerd.sock"))


def install(root: Path) -> None:
    """Put containerd's socket where each machine has it."""
    (root / CONTAINERD).parent.mkdir(parents=True, exist_ok=True)
    (root / CONTAINERD).touch()


def check(root: Path, wanted: str) -> None:
    """Find the runtime that is meant.

    Raises:
        KubeadmError: there are several and none is named, or there is none where the name leads.
    """
    found = [f"unix:///{path}" for path in _KNOWN if (root / path).exists()]
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
