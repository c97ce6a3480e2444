"""The cluster's DNS: names of Services, and of the pods behind headless ones. Everything else does not exist.

It follows Services and EndpointSlices and answers as CoreDNS does. No query leaves the sandbox.
Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from sandbox.kube_client import KubeClient

Json = dict[str, Any]

PORT = 53
TTL = 5
"""Seconds for which an answer may be kept, as with CoreDNS."""

_DOMAIN = dns.name.from_text("cluster.local.")
_SERVICES = "/api/v1/services"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
_SERVICE_OF_SLICE = "kubernetes.io/service-name"


class Records:
    """The addresses of all names in the cluster's domain, by the objects that exist."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], Json] = {}
        self._slices: dict[tuple[str, str], dict[str, Json]] = {}

    def see(self, path: str, kind: str, thing: Any) -> None:
        """Take note of one message of a watch, or of a whole list (``SYNC``)."""
        if kind == "SYNC":
            (self._services if path == _SERVICES else self._slices).clear()
            for each in thing:
                self.see(path, "ADDED", each)
        elif path == _SERVICES:
            self._see_service(thing, exists=kind != "DELETED")
        else:
            self._see_slice(thing, exists=kind != "DELETED")

    def addresses(self, name: dns.name.Name) -> list[str] | None:
        """Return the IPv4 addresses of a name; None if it does not exist."""
        if not name.is_subdomain(_DOMAIN):
            return None
        labels = [label.decode().lower() for label in name.relativize(_DOMAIN).labels]
        if len(labels) not in (3, 4) or labels[-1] != "svc":
            return None
        *hosts, service, namespace, _ = labels
        found = self._services.get((namespace, service))
        if found is None:
            return None
        cluster_ip = found["spec"].get("clusterIP")
        if cluster_ip and cluster_ip != "None":
            return None if hosts else [cluster_ip]
        ready = self._ready((namespace, service))
        if not hosts:
            return [address for endpoint in ready for address in endpoint["addresses"]]
        called = [endpoint for endpoint in ready if endpoint.get("hostname") == hosts[0]]
        return [address for endpoint in called for address in endpoint["addresses"]] or None

    def _see_service(self, service: Json, *, exists: bool) -> None:
        key = service["metadata"]["namespace"], service["metadata"]["name"]
        if exists:
            self._services[key] = service
        else:
            self._services.pop(key, None)

    def _see_slice(self, piece: Json, *, exists: bool) -> None:
        metadata = piece["metadata"]
        of_service = self._slices.setdefault((metadata["namespace"], metadata["labels"].get(_SERVICE_OF_SLICE, "")), {})
        if exists and piece["addressType"] == "IPv4":
            of_service[metadata["name"]] = piece
        else:
            of_service.pop(metadata["name"], None)

    def _ready(self, key: tuple[str, str]) -> list[Json]:
        """List the endpoints of a Service that are ready, or published although they are not."""
        pieces = self._slices.get(key, {}).values()
        endpoints = [endpoint for piece in pieces for endpoint in piece.get("endpoints") or []]
        return [each for each in endpoints if each.get("conditions", {}).get("ready") is not False]


def answer(records: Records, query: bytes) -> bytes | None:
    """Answer one query; None if it is none."""
    try:
        asked = dns.message.from_wire(query)
        told = dns.message.make_response(asked, recursion_available=True)
    except dns.exception.DNSException:
        return None
    if len(asked.question) != 1:
        told.set_rcode(dns.rcode.FORMERR)
        return told.to_wire()
    [question] = asked.question
    addresses = records.addresses(question.name)
    told.flags |= dns.flags.AA
    if addresses is None:
        told.set_rcode(dns.rcode.NXDOMAIN)
    elif addresses and (question.rdclass, question.rdtype) == (dns.rdataclass.IN, dns.rdatatype.A):
        told.answer.append(dns.rrset.from_text_list(question.name, TTL, "IN", "A", addresses))
    return told.to_wire(prefer_truncation=True)


class NameServer:
    """Serves the names of one cluster on a UDP port."""

    def __init__(self, kubeconfig: Path) -> None:
        self._records = Records()
        self._api = KubeClient.from_kubeconfig(kubeconfig)
        self.port = PORT
        self._watches: list[asyncio.Task[None]] = []
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, address: str, port: int = PORT) -> None:
        """Begin to answer at an address; port 0 takes a free one, which is ``port`` afterwards.

        Raises:
            OSError: address and port are taken.
        """
        loop = asyncio.get_running_loop()
        self._watches = [asyncio.create_task(self._follow(path)) for path in (_SERVICES, _SLICES)]
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Protocol(self._records), local_addr=(address, port)
        )
        self.port = int(self._transport.get_extra_info("sockname")[1])

    async def stop(self) -> None:
        """Stop answering."""
        if self._transport is not None:
            self._transport.close()
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._api.close()

    async def _follow(self, path: str) -> None:
        async for change in self._api.follow(path):
            self._records.see(path, change.type, change.object)


class _Protocol(asyncio.DatagramProtocol):
    """Answers what comes in on one socket."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket for the answers."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # which asyncio's own does not derive from

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Answer a query."""
        if self._transport is not None and (told := answer(self._records, data)) is not None:
            self._transport.sendto(told, addr)
