"""What a machine gets to join, and what is reported of its failure."""

from typing import Any

import pytest
import yaml

from activities.join.kubeadm import Discovery, join_configuration, why_it_failed
from activities.join.tokens import token_id_of

DISCOVERY = Discovery("10.0.0.2:6443", "abcdef.0123456789abcdef", "sha256:" + "0" * 64)


def configuration(version: str, **more: Any) -> Any:
    return yaml.safe_load(
        join_configuration(
            DISCOVERY,
            node="vm",
            job_id="0badcafe",
            provider_id="gce://p/z/vm",
            directory="/home/u/.outlast",
            version=version,
            **more,
        )
    )


def test_registers_with_the_buyers_taint_and_the_provider_id() -> None:
    registration = configuration("v1.36.3")["nodeRegistration"]
    assert registration["name"] == "vm"
    assert registration["taints"] == [{"key": "nvidia.com/gpu", "value": "0badcafe", "effect": "NoSchedule"}]
    assert registration["kubeletExtraArgs"] == [{"name": "provider-id", "value": "gce://p/z/vm"}]


def test_a_reserved_node_registers_closed() -> None:
    taints = configuration("v1.36.3", reserved=True)["nodeRegistration"]["taints"]
    assert taints == [
        {"key": "nvidia.com/gpu", "value": "0badcafe", "effect": "NoSchedule"},
        {"key": "training.dcnlab.com/joining", "effect": "NoSchedule"},
    ]


def test_a_job_id_that_looks_like_a_number_is_none() -> None:
    text = join_configuration(
        DISCOVERY, node="vm", job_id="2063e197", provider_id="", directory="", version="v1.36.3"
    )  # a float in YAML 1.2 and to Go, though not to Python
    assert '"value": "2063e197"' in text


def test_trusts_the_pinned_ca_alone() -> None:
    bootstrap = configuration("v1.36.3")["discovery"]["bootstrapToken"]
    assert bootstrap == {
        "apiServerEndpoint": "10.0.0.2:6443",
        "token": "abcdef.0123456789abcdef",
        "caCertHashes": ["sha256:" + "0" * 64],
    }


@pytest.mark.parametrize(
    ("version", "dialect"),
    [("v1.36.3", "v1beta4"), ("v1.31.0", "v1beta4"), ("v1.30.9", "v1beta3"), ("v1.24.0", "v1beta3"), ("", "v1beta4")],
)
def test_speaks_the_dialect_of_the_machines_kubeadm(version: str, dialect: str) -> None:
    assert configuration(version)["apiVersion"] == f"kubeadm.k8s.io/{dialect}"


def test_the_old_dialect_has_a_mapping_of_arguments() -> None:
    assert configuration("v1.28.0")["nodeRegistration"]["kubeletExtraArgs"] == {"provider-id": "gce://p/z/vm"}


def test_the_kubelet_patch_is_named_by_an_absolute_path() -> None:
    assert configuration("v1.36.3")["patches"] == {"directory": "/home/u/.outlast/patches"}


@pytest.mark.parametrize("version", ["v1.28.0", "v1.36.3"])
def test_names_the_runtime_that_was_chosen(version: str) -> None:
    socket = "unix:///var/run/crio/crio.sock"
    assert configuration(version, cri_socket=socket)["nodeRegistration"]["criSocket"] == socket
    assert "criSocket" not in configuration(version)["nodeRegistration"]


def test_a_failure_is_told_by_the_end_of_the_log_without_noise_and_token() -> None:
    log = "start\n\nerror: token abcdef.0123456789abcdef is not valid\nTo see the stack trace of this error execute\n"
    assert why_it_failed("1", log) == "kubeadm join ended 1: start · error: token <token> is not valid"


def test_a_long_log_is_cut_from_its_beginning() -> None:
    message = why_it_failed("1", "\n".join(f"line {number} {'x' * 300}" for number in range(20)))
    assert len(message) < 1100
    assert "line 19" in message


def test_a_vms_token_has_an_id_of_its_own() -> None:
    ids = {token_id_of(f"outlast-0badcafe-r0-v1-t{attempt}") for attempt in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 6 and one.isalnum() and one == one.lower() for one in ids)
