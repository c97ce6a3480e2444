"""Ports and addresses that a sandbox claims before its servers listen there."""

from __future__ import annotations

import socket
from collections import deque
from random import SystemRandom

from sandbox.errors import SandboxError
from sandbox.settings import OCTETS

CLAIMS = 100
"""How many ports this process keeps claimed (``free_port``): many more than it starts servers at a time."""
_claims: deque[socket.socket] = deque()
_random = SystemRandom()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens, and which no other call in any process has returned.

    It lies below the range from which the kernel takes ports for outgoing connections, so that none of these gets it
    before its server does. Until the server listens, a claim keeps the port from everybody else who calls this: the UDP
    port of the same number. The claim lasts until this process ends, or has claimed many other ports.
    """
    while True:
        port = _random.randrange(20000, 32000)
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            with socket.socket() as candidate:
                candidate.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > CLAIMS:
            _claims.popleft().close()
        return port


def claim_octet(ssh_port: int) -> tuple[int, socket.socket]:
    """Claim a second octet N of 127/8 that no other sandbox uses, and return it with the socket that is the claim.

    Raises:
        SandboxError: all of ``OCTETS`` are taken.
    """
    for octet in OCTETS:
        claim = socket.socket()
        try:
            # No VM gets host 1 of zone 0, just as no machine in a cloud gets its network's gateway.
            claim.bind((f"127.{octet}.0.1", ssh_port))
            claim.listen(1)
        except OSError:
            claim.close()
            continue
        return octet, claim
    raise SandboxError(
        f"no address 127.{OCTETS.start}..{OCTETS.stop - 1}.0.1:{ssh_port} is free: end other sandboxes "
        "(only Linux answers on all of 127.0.0.0/8 by default)"
    )
