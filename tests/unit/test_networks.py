"""Which addresses a spec may lead to, with and without an installation's own rules."""

import pytest

from activities.network.networks import ALLOWED, DENIED, Networks, networks

PUBLIC = ["8.8.8.8", "142.250.1.1", "2001:4860:4860::8888", "64:ff9b::808:808"]
PRIVATE = ["10.96.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::1", "fec0::1"]
DISGUISED = ["::ffff:10.96.0.1", "::ffff:127.0.0.1", "2002:a60:1::", "64:ff9b::a60:1", "::a60:1"]
NEVER = [
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "0.0.0.0", "::", "fe80::1%1",
    "fd00:ec2::254", "fd20:ce::254", "224.0.0.1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert Networks().refusal(address) is None


@pytest.mark.parametrize("address", [*PRIVATE, *DISGUISED])
def test_private_ones_are_refused_with_the_setting_that_permits_them(address: str) -> None:
    assert ALLOWED in (Networks().refusal(address) or "")


@pytest.mark.parametrize("address", PRIVATE)
def test_an_installation_permits_its_own(address: str) -> None:
    assert networks({ALLOWED: f"192.0.2.0/24, {address}"}).refusal(address) is None


@pytest.mark.parametrize("address", NEVER)
def test_no_setting_opens_the_metadata_server(address: str) -> None:
    assert "never" in (networks({ALLOWED: "0.0.0.0/0,::/0"}).refusal(address) or "")


def test_what_is_denied_is_refused_though_it_is_allowed_or_public() -> None:
    both = networks({ALLOWED: "10.0.0.0/8", DENIED: "10.96.0.0/12, 203.0.114.0/24"})
    assert both.refusal("10.20.0.1") is None
    for address in ("10.96.0.1", "::ffff:10.96.0.1", "203.0.114.9"):
        assert DENIED in (both.refusal(address) or "")


def test_the_api_server_is_denied_as_a_pod_finds_it() -> None:
    here = networks({ALLOWED: "10.0.0.0/8", "KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert DENIED in (here.refusal("10.96.0.1") or "")
    assert networks({"KUBERNETES_SERVICE_HOST": "api.example"}) == Networks()


@pytest.mark.parametrize("text", ["10.0.0.0/33", "registry.example", "10.0.0.1/8"])
def test_what_is_no_network_is_told_by_its_variable(text: str) -> None:
    for variable in (ALLOWED, DENIED):
        with pytest.raises(ValueError, match=f"{variable}: .*for example"):
            networks({variable: text})
