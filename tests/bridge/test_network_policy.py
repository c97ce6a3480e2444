"""What our pods may reach by the network policies of ``deploy/base``: a default installation, and no more."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bridge.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
PARTS = ("worker", "bridge", "setup")
METADATA = ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200"]
Json = dict[str, Any]


async def rendered(control_plane: Any, directory: Path) -> list[Json]:
    return list(yaml.safe_load_all(await control_plane.kubectl("kustomize", directory)))


@pytest.fixture
async def objects(control_plane: Any) -> list[Json]:
    return await rendered(control_plane, DEPLOY / "base")


def named(objects: list[Json], kind: str, part: str) -> Json:
    """Find one object; a worker's has the version in its name as well."""
    return next(each for each in objects if each["kind"] == kind and f"outlast-{part}" in each["metadata"]["name"])


def owner(objects: list[Json], part: str) -> Json:
    """Find what makes the pods of a part."""
    return named(objects, "Job" if part == "setup" else "Deployment", part)


def opens(policy: Json, address: str, port: int, protocol: str = "TCP") -> bool:
    """True if a connection to this address is permitted, as a network plugin reads the policy."""
    return any(
        any(each["port"] == port and each["protocol"] == protocol for each in rule["ports"])
        and ("to" not in rule or any(_within(each["ipBlock"], address) for each in rule["to"]))
        for rule in policy["spec"]["egress"]
    )


def _within(block: Json, text: str) -> bool:
    address = ipaddress.ip_address(text)
    out = [ipaddress.ip_network(each) for each in block.get("except", [])]
    return address in ipaddress.ip_network(block["cidr"]) and not any(address in each for each in out)


@pytest.mark.parametrize("part", PARTS)
def test_it_is_the_policy_of_the_pods_of_its_part(objects: list[Json], part: str) -> None:
    policy, pods = named(objects, "NetworkPolicy", part), owner(objects, part)
    assert policy["metadata"]["namespace"] == pods["metadata"]["namespace"]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= pods["spec"]["template"]["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("part", ["worker", "bridge"])
def test_metrics_and_probes_are_all_that_is_served(objects: list[Json], part: str) -> None:
    (rule,) = named(objects, "NetworkPolicy", part)["spec"]["ingress"]
    (container,) = named(objects, "Deployment", part)["spec"]["template"]["spec"]["containers"]
    assert {each["port"] for each in rule["ports"]} == {each["containerPort"] for each in container["ports"]}


@pytest.mark.parametrize("part", PARTS)
def test_a_default_installation_reaches_what_it_needs(objects: list[Json], part: str) -> None:
    policy = named(objects, "NetworkPolicy", part)
    settings = next(each for each in objects if each["kind"] == "ConfigMap")["data"]
    temporal = int(settings["TEMPORAL_ADDRESS"].rpartition(":")[2])
    assert opens(policy, "10.96.0.10", 53, "UDP")
    assert opens(policy, "169.254.20.10", 53, "UDP"), "the DNS cache of a node"
    assert opens(policy, "10.96.0.1", 443), "the API server's Service, before it is translated"
    assert opens(policy, "192.168.0.2", 6443), "and after"
    assert opens(policy, "10.244.1.7", temporal), "Temporal in another namespace"
    assert opens(policy, "142.250.1.1", 443), "Google's APIs, a registry, a bucket"
    assert opens(policy, "2a00:1450::1", 443)


def test_nobody_connects_to_the_setup(objects: list[Json]) -> None:
    assert named(objects, "NetworkPolicy", "setup")["spec"]["ingress"] == []


def test_the_worker_alone_enters_machines(objects: list[Json]) -> None:
    assert opens(named(objects, "NetworkPolicy", "worker"), "10.128.0.9", 22)
    assert not any(opens(named(objects, "NetworkPolicy", part), "10.128.0.9", 22) for part in ("bridge", "setup"))


@pytest.mark.parametrize("part", PARTS)
def test_none_reaches_metadata_servers_or_what_else_the_cluster_serves(objects: list[Json], part: str) -> None:
    policy = named(objects, "NetworkPolicy", part)
    assert not any(opens(policy, address, port) for address in METADATA for port in (80, 443, 988))
    assert not any(opens(policy, "10.244.1.7", port) for port in (80, 2379, 3306, 5432, 6379, 8080, 10250))


async def test_an_identity_of_its_own_opens_the_metadata_server_to_the_worker(
    control_plane: Any, installed: None, tmp_path: Path
) -> None:
    kustomization = {
        "resources": ["../deploy/overlays/sandbox"],
        "components": ["../deploy/components/own-identity"],
    }
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = await rendered(control_plane, tmp_path / "mine")
    assert opens(named(objects, "NetworkPolicy", "worker"), "169.254.169.254", 80)
    assert not opens(named(objects, "NetworkPolicy", "bridge"), "169.254.169.254", 80)
    await control_plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", tmp_path / "mine"
    )
