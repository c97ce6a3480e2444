"""The DNS of real machines: what it answers about Services and the pods behind them."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from sandbox.machines.real.dns import Records, answer

Json = dict[str, Any]

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
GANG = "llm-0a1b-r0.team.svc.cluster.local"


def service(name: str, cluster_ip: str = "None") -> Json:
    return {"metadata": {"name": name, "namespace": "team"}, "spec": {"clusterIP": cluster_ip}}


def piece(name: str, *endpoints: Json, of: str = "llm-0a1b-r0", addresses: str = "IPv4") -> Json:
    labels = {"kubernetes.io/service-name": of}
    metadata = {"name": name, "namespace": "team", "labels": labels}
    return {"metadata": metadata, "addressType": addresses, "endpoints": list(endpoints)}


def endpoint(hostname: str, *addresses: str, ready: bool | None = True) -> Json:
    return {"hostname": hostname, "addresses": list(addresses), "conditions": {"ready": ready}}


@pytest.fixture
def records() -> Records:
    made = Records()
    made.see(SERVICES, "SYNC", [service("llm-0a1b-r0"), service("web", "10.96.7.7")])
    made.see(SLICES, "SYNC", [piece("a", endpoint("i0-0", "10.244.1.2"), endpoint("i0-1", "10.244.2.2", ready=None))])
    return made


def ask(records: Records, name: str, kind: str = "A") -> tuple[str, list[str]]:
    told = answer(records, dns.message.make_query(name, kind).to_wire())
    assert told is not None
    message = dns.message.from_wire(told)
    assert message.flags & dns.flags.QR
    found = [str(each) for rrset in message.answer for each in rrset]
    return dns.rcode.to_text(message.rcode()), sorted(found)


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        (f"i0-0.{GANG}", ["10.244.1.2"]),
        (f"I0-1.{GANG}", ["10.244.2.2"]),
        (GANG, ["10.244.1.2", "10.244.2.2"]),
        ("web.team.svc.cluster.local", ["10.96.7.7"]),
    ],
)
def test_pods_and_services_have_names(records: Records, name: str, addresses: list[str]) -> None:
    assert ask(records, name) == ("NOERROR", addresses)


@pytest.mark.parametrize(
    "name",
    [
        f"i0-2.{GANG}",
        f"i0-0.x.{GANG}",
        "i0-0.web.team.svc.cluster.local",
        "llm-0a1b-r0.other.svc.cluster.local",
        "llm-0a1b-r0.team.pod.cluster.local",
        "cluster.local",
        "example.com",
    ],
)
def test_nothing_else_exists(records: Records, name: str) -> None:
    assert ask(records, name) == ("NXDOMAIN", [])


def test_a_name_without_addresses_of_a_kind_exists(records: Records) -> None:
    assert ask(records, f"i0-0.{GANG}", "AAAA") == ("NOERROR", [])


def test_what_changes_is_answered_anew(records: Records) -> None:
    records.see(SLICES, "MODIFIED", piece("a", endpoint("i1-0", "10.244.3.3"), endpoint("i1-1", "::1", ready=False)))
    records.see(SLICES, "ADDED", piece("b", endpoint("i1-2", "fd00::1"), addresses="IPv6"))
    assert ask(records, f"i0-0.{GANG}")[0] == ask(records, f"i1-1.{GANG}")[0] == ask(records, f"i1-2.{GANG}")[0]
    assert ask(records, GANG) == ("NOERROR", ["10.244.3.3"])
    records.see(SLICES, "DELETED", piece("a"))
    assert ask(records, GANG) == ("NOERROR", [])
    records.see(SERVICES, "DELETED", service("llm-0a1b-r0"))
    assert ask(records, GANG) == ("NXDOMAIN", [])


def test_what_is_no_query_is_not_answered(records: Records) -> None:
    assert answer(records, b"hello") is None
