"""Network namespaces: how to enter a new one, and how to open a socket in another.

Python's own ``os.unshare`` and ``os.setns`` came with 3.12.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

from sandbox.errors import SandboxError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter_new() -> int:
    """Move the calling thread, and what it starts from now on, to a new namespace; returns a handle of the old one.

    Raises:
        SandboxError: the kernel does not allow it.
    """
    left = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        os.close(left)
        raise SandboxError(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
    return left


def enter(namespace: int) -> None:
    """Move the calling thread to a namespace by its handle."""
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def of_process(pid: int) -> int:
    """Open a handle of the namespace of a process."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def listen(namespace: int, address: str, port: int) -> socket.socket:
    """Open a listening socket in a namespace. A socket stays in its namespace, whoever uses it.

    Raises:
        OSError: address and port are taken there.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            enter(namespace)
            made.append(socket.create_server((address, port), backlog=128))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)  # a namespace belongs to a thread, so this thread does nothing else
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def close(namespace: int) -> None:
    """Close a handle."""
    os.close(namespace)
