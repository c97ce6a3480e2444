"""What goes wrong inside a machine while it becomes a node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mishaps:
    """What is played on one machine. It is false if nothing is."""

    ssh_hangs: bool = False
    """From its first ``kubeadm join`` on, sshd accepts connections and says nothing; existing ones go on."""
    token_expires: bool = False
    """The token of its first ``kubeadm join`` expires just before it is used."""
    clock_behind: float = 0.0
    """How many seconds its clock is slow, as far as kubeadm reads it."""

    def __bool__(self) -> bool:
        return self != Mishaps()
