"""The cloud's network: in a namespace of the sandbox's own, with a bridge for each zone.

The process of the sandbox moves there itself, so that every server that it starts afterwards is in it and nothing of
the machine's own network is touched. All of it is gone with the last process that is in it.

| address | what |
|---|---|
| 10.128.0.1 | the control plane, as machines reach it |
| 10.96.0.1 | the Service ``kubernetes``, as pods reach it |
| 10.96.0.10 | DNS, as pods reach it |
| 10.128.Z.1 | gateway of zone Z, on its bridge |
| 10.128.Z.H | a machine |
| 10.244.N.0/24 | the pods of a machine |
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.machines.real import netns
from sandbox.machines.real.forward import Forward

CONTROL_PLANE = "10.128.0.1"
SERVICE = "10.96.0.1"
DNS = "10.96.0.10"
MACHINES = "10.128"
METADATA = "169.254.169.254"
_LOOPBACK_PORT = re.compile(r"(?:^|//)127\.0\.0\.1:(\d+)")


class Network:
    """The network of one sandbox."""

    def __init__(self) -> None:
        self._outside: int | None = None
        self._zones: set[int] = set()
        self._pods: set[int] = set()
        self._forwards: list[Forward] = []

    async def up(self) -> None:
        """Move this process to a namespace of its own.

        Raises:
            SandboxError: the kernel does not allow it.
        """
        self._outside = netns.enter_new()
        await ip("link", "set", "lo", "up")
        for address in (CONTROL_PLANE, SERVICE, DNS):
            await ip("address", "add", f"{address}/32", "dev", "lo")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # noqa: ASYNC240 - no disk

    async def down(self) -> None:
        """Move this process back to where it was."""
        await asyncio.gather(*(forward.stop() for forward in self._forwards))
        if self._outside is not None:
            netns.enter(self._outside)
            os.close(self._outside)
            self._outside = None

    async def publish(self, addresses: Iterable[str]) -> None:
        """Make what listens on 127.0.0.1 here reachable under the same port outside.

        Raises:
            SandboxError: such a port is taken there.
        """
        assert self._outside is not None
        for port in sorted(_ports(addresses)):
            try:
                listening = netns.listen(self._outside, "127.0.0.1", port)
            except OSError as error:
                raise SandboxError(f"127.0.0.1:{port} is taken outside of the sandbox's network: {error}") from error
            await self._forward(listening, "127.0.0.1", port)

    async def serve_pods(self, port: int) -> None:
        """Let pods reach the API server as the Service ``kubernetes``: there is no kube-proxy on the machines."""
        await self._forward(socket.create_server((SERVICE, 443)), "127.0.0.1", port)

    async def serve_machines(self, addresses: Iterable[str]) -> None:
        """Let machines and pods reach these servers, which listen on 127.0.0.1, at the control plane's address."""
        for port in sorted(_ports(addresses)):
            await self._forward(socket.create_server((CONTROL_PLANE, port)), "127.0.0.1", port)

    async def _forward(self, listening: socket.socket, host: str, port: int) -> None:
        forward = Forward(listening, host, port)
        await forward.start()
        self._forwards.append(forward)

    async def attach(self, pid: int, address: str) -> int:
        """Plug the machine whose first process is ``pid`` into its zone, and return the number of its pods' network."""
        zone = int(address.split(".")[2])
        bridge, gateway = f"zone{zone}", f"{MACHINES}.{zone}.1"
        if zone not in self._zones:
            self._zones.add(zone)
            # Otherwise a machine's address becomes the bridge's, and when that one goes the others lose it for a while.
            await ip("link", "add", bridge, "address", f"02:00:00:00:{zone:02x}:01", "type", "bridge")
            await ip("address", "add", f"{gateway}/24", "dev", bridge)
            await ip("link", "set", bridge, "up")
        number = next(number for number in range(1, 255) if number not in self._pods)
        self._pods.add(number)
        veth = _interface(address)
        await ip("link", "delete", veth, check=False)  # of a dead machine with this address that is not quite gone
        # As in GCE. With random ones, those who knew the last machine with this address would still send to it.
        mac = ":".join(f"{part:02x}" for part in (0x42, 0x01, *map(int, address.split("."))))
        await ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", str(pid))
        await ip("link", "set", veth, "master", bridge, "up")
        inside = ("nsenter", "--target", str(pid), "--net")
        await ip("link", "set", "lo", "up", inside=inside)
        await ip("address", "add", f"{METADATA}/32", "dev", "lo", inside=inside)
        await ip("address", "add", f"{address}/24", "dev", "eth0", inside=inside)
        await ip("link", "set", "eth0", "up", inside=inside)
        await ip("route", "add", "default", "via", gateway, inside=inside)
        await ip("route", "replace", pods(number), "via", address)
        return number

    async def unplug(self, address: str) -> None:
        """Let no packet of this machine pass: as with a failed node, its peers do not learn of its end."""
        await ip("link", "set", _interface(address), "down", check=False)

    async def detach(self, number: int) -> None:
        """Forget the network of a machine's pods; its interface went with its namespace."""
        await ip("route", "delete", pods(number), check=False)
        self._pods.discard(number)


def as_machines_reach(address: str) -> str:
    """Return an address on 127.0.0.1 as machines and their pods reach it after ``serve_machines``."""
    return address.replace("127.0.0.1", CONTROL_PLANE)


def _interface(address: str) -> str:
    """Return the name of the interface by which a machine is plugged into its zone's bridge."""
    zone, host = address.split(".")[2:]
    return f"vm{zone}-{host}"


def _ports(addresses: Iterable[str]) -> set[int]:
    return {int(port) for address in addresses for port in _LOOPBACK_PORT.findall(address)}


def pods(number: int) -> str:
    """Return the network of a machine's pods."""
    return f"10.244.{number}.0/24"


async def ip(*words: str, inside: tuple[str, ...] = (), check: bool = True) -> None:
    """Run ``ip`` with these words; ``inside`` is a call of nsenter, for the namespaces of another process.

    Raises:
        SandboxError: it fails, and ``check`` is True.
    """
    process = await asyncio.create_subprocess_exec(
        *inside, "ip", *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if check and process.returncode != 0:
        raise SandboxError(f"ip {' '.join(words)}: {said.decode().strip()}")
