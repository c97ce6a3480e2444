"""The container runtime that kubeadm uses. It refuses a machine that has several, unless it is told which one.

https://kubernetes.io/docs/setup/production-environment/container-runtimes/
"""

from dataclasses import dataclass

import asyncssh
from temporalio.exceptions import ApplicationError

from api import errors
from api.formats import CRI_SOCKET
from api.names import shown

SOCKETS = {
    "containerd": "/var/run/containerd/containerd.sock",
    "CRI-O": "/var/run/crio/crio.sock",
    "Docker": "/var/run/cri-dockerd.sock",
}
"""The socket at which kubeadm looks for each runtime, that of Outlast's image first."""


@dataclass(frozen=True)
class Runtime:
    """The runtime that kubeadm is told to use.

    Attributes:
        socket: ``unix:///…``; None leaves the choice to kubeadm, which finds the only one.
        note: what people read if Outlast chose among several; empty otherwise.
    """

    socket: str | None = None
    note: str = ""


def choose(wanted: str | None, found: list[str]) -> Runtime:
    """Choose a runtime: ``wanted`` is the SpotInstanceVM's, ``found`` lists the names of those on the machine.

    Raises:
        ApplicationError: INVALID if ``wanted`` is malformed: kubeadm makes it a flag in a line that is split at spaces.
    """
    if wanted and not CRI_SOCKET.fits(wanted):
        message = f"kubeadmJoinConfig.criSocket: {shown(wanted)} is {CRI_SOCKET.remedy}"
        raise ApplicationError(message, type=errors.INVALID, non_retryable=True)
    if wanted:
        return Runtime(wanted if wanted.startswith("unix://") else f"unix://{wanted}")
    known = [name for name in SOCKETS if name in found]
    if len(known) < 2:
        return Runtime()
    note = (
        f"the machine has {' and '.join(known)}, and {known[0]} is used: set kubeadmJoinConfig.criSocket of the "
        "SpotInstanceVM to use another"
    )
    return Runtime(f"unix://{SOCKETS[known[0]]}", note)


async def runtime_of(machine: asyncssh.SSHClientConnection, wanted: str | None) -> Runtime:
    """Find the runtimes of the machine, and choose one."""
    async with machine.start_sftp_client() as sftp:
        return choose(wanted, [name for name, path in SOCKETS.items() if await sftp.exists(path)])
