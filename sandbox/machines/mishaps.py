"""What goes wrong inside a machine while it becomes a node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mishaps:
    """What is played on one machine. False as a whole where nothing is."""

    ssh_hangs: bool = False
    """From its first `kubeadm join` on, sshd takes connections and says nothing; those that are there go on."""
    token_expires: bool = False
    """The token of its first `kubeadm join` expires just before it is used."""
    clock_behind: float = 0.0
    """Seconds by which its clock is slow, as far as kubeadm looks at it."""

    def __bool__(self) -> bool:
        return self != Mishaps()
