"""Network namespaces: to leave the machine's own for a new one, and to open a socket in another.

Python's own `os.unshare` and `os.setns` came with 3.12.
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
    """Move the calling thread, and what it starts from now on, to a new namespace; a handle of the one it left.

    Raises:
        SandboxError: where the kernel does not allow it.
    """
    left = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        os.close(left)
        raise SandboxError(f"no network namespace of its own: {os.strerror(ctypes.get_errno())}")
    return left


def enter(namespace: int) -> None:
    """Move the calling thread to a namespace by its handle."""
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def of_process(pid: int) -> int:
    """A handle of the namespace of a process."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def listen(namespace: int, address: str, port: int) -> socket.socket:
    """A listening socket in a namespace: a socket stays where it was made, whoever uses it.

    Raises:
        OSError: when address and port are taken there.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            enter(namespace)
            made.append(socket.create_server((address, port), backlog=128))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)  # a namespace is a thread's own: this one ends with its errand
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def close(namespace: int) -> None:
    """Let go of a handle."""
    os.close(namespace)
