"""Which container runtime of a machine kubeadm uses. It refuses a machine that has several, unless it is told.

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
"""Where kubeadm looks for each runtime, the one that Outlast's image has first."""


@dataclass(frozen=True)
class Runtime:
    """The runtime that kubeadm is told to use.

    Attributes:
        socket: ``unix:///…``; None leaves the choice to kubeadm, which finds the only one.
        remark: what people are told if Outlast chose among several; empty otherwise.
    """

    socket: str | None = None
    remark: str = ""


def choose(wanted: str | None, found: list[str]) -> Runtime:
    """Choose a runtime: ``wanted`` is the SpotInstanceVM's, ``found`` the names of those on the machine.

    Raises:
        ApplicationError: INVALID; kubeadm makes a flag of the kubelet's of it, in a line that is split at spaces.
    """
    if wanted and not CRI_SOCKET.fits(wanted):
        message = f"kubeadmJoinConfig.criSocket: {shown(wanted)} is {CRI_SOCKET.remedy}"
        raise ApplicationError(message, type=errors.INVALID, non_retryable=True)
    if wanted:
        return Runtime(wanted if wanted.startswith("unix://") else f"unix://{wanted}")
    known = [name for name in SOCKETS if name in found]
    if len(known) < 2:
        return Runtime()
    remark = (
        f"the machine has {' and '.join(known)}, and {known[0]} is used: set kubeadmJoinConfig.criSocket of the "
        "SpotInstanceVM to use another"
    )
    return Runtime(f"unix://{SOCKETS[known[0]]}", remark)


async def runtime_of(machine: asyncssh.SSHClientConnection, wanted: str | None) -> Runtime:
    """Look which runtimes the machine has, and choose."""
    async with machine.start_sftp_client() as sftp:
        return choose(wanted, [name for name, path in SOCKETS.items() if await sftp.exists(path)])
