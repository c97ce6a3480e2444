"""Addresses for VMs: <network>.<zone>.<host>, on loopback for light ones (127.<sandbox>.<zone>.<host>)."""

from __future__ import annotations

from sandbox.gce.catalog import ZONES


class Addresses:
    """Gives every VM an address of its own; the lowest free one, so that addresses are used again, as in reality."""

    def __init__(self, network: str) -> None:
        """`network` is the first two octets."""
        self._network = network
        self._taken: set[str] = set()

    def take(self, zone: str) -> str:
        """A free address in `zone`.

        Raises:
            RuntimeError: when all 253 are taken.
        """
        subnet = f"{self._network}.{ZONES.index(zone) + 1}"
        for host in range(2, 255):
            address = f"{subnet}.{host}"
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise RuntimeError(f"no free address in {subnet}.0/24: delete VMs in {zone}")

    def give_back(self, address: str) -> None:
        """Let `address` be used again."""
        self._taken.discard(address)
