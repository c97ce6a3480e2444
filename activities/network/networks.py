"""The addresses to which a URL from a spec may lead. Pure.

Whoever writes a ``SpotInstanceJob`` chooses hosts that the worker then connects to: a registry, a bucket's endpoint,
and whatever these redirect to. From inside the cluster the worker reaches much that this author cannot reach, so by
default only public addresses are permitted. An installation adds its own registries and object stores.
"""

import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ALLOWED = "OUTLAST_ALLOWED_NETWORKS"
DENIED = "OUTLAST_DENIED_NETWORKS"

NEVER: tuple[Network, ...] = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local: the metadata servers of most clouds
        "fe80::/10",
        "fd00:ec2::/32",  # Amazon's metadata server
        "fd20:ce::254/128",  # Google's
        "168.63.129.16/32",  # Azure's, though it is a public address
        "100.100.100.200/32",  # Alibaba's
        "192.0.0.192/32",  # Oracle's
        "::/128",
        "224.0.0.0/4",
        "ff00::/8",
    )
)
"""Networks that no setting opens: metadata servers, which give credentials to anybody, and addresses of no host."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True)
class Networks:
    """What an installation permits beside public addresses (``allowed``), and what it forbids (``denied``).

    ``denied`` takes precedence over ``allowed``, and :data:`NEVER` over both.
    """

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def refusal(self, text: str) -> str | None:
        """Say why this numeric address may not be connected to, with the remedy; None if it may.

        The message does not show the address: not everybody may know what a name in the cluster's DNS stands for.
        """
        address = ipaddress.ip_address(text)
        meant = _embedded(address) or address
        if _within(NEVER, address, meant):
            return "it is a link-local, metadata or multicast address, which Outlast never connects to for a job"
        if _within(self.denied, address, meant):
            return f"its address is among the networks of {DENIED}"
        if not (_is_public(meant) or _within(self.allowed, meant)):
            return (
                "it is a private or loopback address: use a public one, or ask whoever runs Outlast to add its network "
                f"to {ALLOWED}"
            )
        return None


def _within(several: tuple[Network, ...], *addresses: Address) -> bool:
    return any(address in network for address in addresses for network in several)


def _is_public(address: Address) -> bool:
    local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not local


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """Find the IPv4 address that an IPv6 one stands for (mapped, compatible, 6to4 or NAT64); ``::1`` is itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if found := address.ipv4_mapped or address.sixtofour:
        return found
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def networks(environment: Mapping[str, str]) -> Networks:
    """Read ``OUTLAST_ALLOWED_NETWORKS`` and ``OUTLAST_DENIED_NETWORKS``.

    The API server's address, as a pod sees it, is denied without being listed.

    Raises:
        ValueError: a network cannot be read; the message names the variable.
    """
    denied = _parsed(environment, DENIED)
    with contextlib.suppress(ValueError):  # not in a pod, or a name instead of an address
        denied += (ipaddress.ip_network(environment.get("KUBERNETES_SERVICE_HOST", "")),)
    return Networks(_parsed(environment, ALLOWED), denied)


def _parsed(environment: Mapping[str, str], name: str) -> tuple[Network, ...]:
    words = [word.strip() for word in environment.get(name, "").split(",") if word.strip()]
    try:
        return tuple(ipaddress.ip_network(word) for word in words)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; write networks between commas, for example 10.20.0.0/16") from error
