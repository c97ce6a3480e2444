"""``kubeadm join`` of a light machine against a real control plane."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio
import yaml

from sandbox.control_plane import ControlPlane
from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light import LightMachine
from tests.sandbox.light_machines import World
from tests.sandbox.light_machines import world as running
from tests.sandbox.light_nodes import condition, eventually

_JOIN = "sudo -n kubeadm join --config .outlast/join.yaml"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


class Joining:
    """Makes configurations for joins, and has their results."""

    def __init__(self, world: World, plane: ControlPlane, admin: KubeClient) -> None:
        self.world, self.plane, self.admin = world, plane, admin

    async def configuration(self, name: str, **changes: Any) -> dict[str, Any]:
        token = {
            "token": changes.pop("token", None) or await self.plane.create_bootstrap_token(),
            "apiServerEndpoint": changes.pop("endpoint", self.plane.endpoint),
            "caCertHashes": [changes.pop("ca_hash", self.plane.ca_hash)],
        }
        return {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "JoinConfiguration",
            "discovery": {"bootstrapToken": token},
            "nodeRegistration": {
                "name": name,
                "taints": [{"key": "nvidia.com/gpu", "value": "7f3a", "effect": "NoSchedule"}],
                "kubeletExtraArgs": [
                    {"name": "provider-id", "value": f"gce://demo-project/us-central1-a/{name}"},
                    {"name": "node-labels", "value": "test=yes,topology.kubernetes.io/zone=us-central1-a"},
                ],
            },
            **changes,
        }

    async def put(self, machine: LightMachine, path: str, content: str) -> None:
        async with self.world.ssh(machine) as connection:
            await connection.run(f"mkdir -p {Path(path).parent}", check=True)
            async with connection.start_sftp_client() as sftp, sftp.open(path, "w") as file:
                await file.write(content)

    async def join(self, machine: LightMachine, configuration: dict[str, Any]) -> asyncssh.SSHCompletedProcess:
        await self.put(machine, ".outlast/join.yaml", yaml.safe_dump(configuration))
        return await self.world.run(machine, _JOIN)

    async def node(self, name: str) -> dict[str, Any]:
        return await self.admin.get(f"/api/v1/nodes/{name}")

    async def ready(self, name: str, status: str = "True") -> dict[str, Any]:
        async def is_so() -> dict[str, Any] | None:
            node = await self.node(name)
            return node if condition(node["status"], "Ready").get("status") == status else None

        return await eventually(f"node {name} Ready={status}", is_so, 120)


@pytest_asyncio.fixture
async def joining(world: World, control_plane: ControlPlane, admin: KubeClient) -> AsyncIterator[Joining]:
    yield Joining(world, control_plane, admin)
    for machine in world.made:
        await machine.power_off(0)
        with contextlib.suppress(ApiError):  # not every test makes a Node
            await admin.delete(f"/api/v1/nodes/{machine.spec.name}")


async def test_a_join_makes_a_ready_node_with_its_gpus(joining: Joining) -> None:
    machine = await joining.world.boot("join-ready", gpu_count=2)
    done = await joining.join(machine, await joining.configuration("join-ready"))
    assert done.exit_status == 0, done.stderr
    assert "This node has joined the cluster" in done.stdout
    node = await joining.ready("join-ready")
    assert node["spec"]["providerID"] == "gce://demo-project/us-central1-a/join-ready"
    assert {"key": "nvidia.com/gpu", "value": "7f3a", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "us-central1-a"

    async def has_gpus() -> bool:
        return (await joining.node("join-ready"))["status"]["allocatable"].get("nvidia.com/gpu") == "2"

    await eventually("GPUs of the node", has_gpus)
    assert (await joining.world.run(machine, "systemctl is-active kubelet")).stdout == "active\n"


async def test_the_certificate_was_asked_for_and_approved(joining: Joining) -> None:
    machine = await joining.world.boot("join-csr")
    await joining.join(machine, await joining.configuration("join-csr"))
    requests = (await joining.admin.get("/apis/certificates.k8s.io/v1/certificatesigningrequests"))["items"]
    mine = [r for r in requests if r["spec"]["username"].startswith("system:bootstrap:")]
    assert any(c["type"] == "Approved" for r in mine for c in r["status"]["conditions"])
    assert oct((machine.root / "var/lib/kubelet/pki/kubelet-client-current.pem").stat().st_mode)[-3:] == "600"


async def test_the_older_dialect_joins_too(joining: Joining) -> None:
    machine = await joining.world.boot("join-old")
    configuration = await joining.configuration("join-old")
    configuration["apiVersion"] = "kubeadm.k8s.io/v1beta3"
    configuration["nodeRegistration"]["kubeletExtraArgs"] = {"provider-id": "gce://demo-project/zone/join-old"}
    assert (await joining.join(machine, configuration)).exit_status == 0
    assert (await joining.ready("join-old"))["spec"]["providerID"] == "gce://demo-project/zone/join-old"


async def test_arguments_in_place_of_a_file_join_too(joining: Joining) -> None:
    machine = await joining.world.boot("join-args")
    token = await joining.plane.create_bootstrap_token()
    command = f"sudo kubeadm join {joining.plane.endpoint} --token {token} --discovery-token-ca-cert-hash "
    done = await joining.world.run(machine, command + joining.plane.ca_hash)
    assert done.exit_status == 0, done.stderr
    await joining.ready("join-args")


async def test_a_patch_of_the_kubelet_configuration_is_applied(joining: Joining) -> None:
    machine = await joining.world.boot("join-patch")
    patch = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nshutdownGracePeriod: 25s\n"
    await joining.put(machine, ".outlast/patches/kubeletconfiguration+strategic.yaml", patch)
    directory = f"{machine.root}/.outlast/patches"
    configuration = await joining.configuration("join-patch", patches={"directory": directory})
    assert (await joining.join(machine, configuration)).exit_status == 0
    written = yaml.safe_load((machine.root / "var/lib/kubelet/config.yaml").read_text())
    assert written["shutdownGracePeriod"] == "25s"
    assert written["clusterDomain"] == "cluster.local"


async def test_joining_twice_fails_preflight_until_a_reset(joining: Joining) -> None:
    machine = await joining.world.boot("join-twice")
    configuration = await joining.configuration("join-twice")
    assert (await joining.join(machine, configuration)).exit_status == 0
    again = await joining.join(machine, configuration)
    assert again.exit_status == 2
    assert "[ERROR FileAvailable--etc-kubernetes-kubelet.conf]" in again.stderr
    assert (await joining.world.run(machine, "sudo kubeadm reset -f")).exit_status == 0
    assert (await joining.world.run(machine, "systemctl is-active kubelet")).stdout == "inactive\n"
    await joining.admin.delete("/api/v1/nodes/join-twice")
    assert (await joining.join(machine, configuration)).exit_status == 0


async def test_the_name_of_a_living_node_is_refused(joining: Joining) -> None:
    first, second = await joining.world.boot("join-first"), await joining.world.boot("join-second")
    assert (await joining.join(first, await joining.configuration("join-first"))).exit_status == 0
    await joining.ready("join-first")
    done = await joining.join(second, await joining.configuration("join-first"))
    assert done.exit_status == 1
    assert 'a Node with name "join-first" and status "Ready" already exists' in done.stderr


async def test_another_ca_is_refused(joining: Joining) -> None:
    machine = await joining.world.boot("join-ca")
    done = await joining.join(machine, await joining.configuration("join-ca", ca_hash="sha256:" + "0" * 64))
    assert done.exit_status == 1
    assert "are pinned" in done.stderr


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (
            "abcdef.0123456789abcdef",
            'could not find a JWS signature in the cluster-info ConfigMap for token ID "abcdef"',
        ),
        ("wrong", "the bootstrap token is invalid"),
    ],
)
async def test_an_unknown_token_is_refused(joining: Joining, token: str, reason: str) -> None:
    machine = await joining.world.boot("join-token")
    configuration = await joining.configuration("join-token", token=token, timeouts={"discovery": "1s"})
    done = await joining.join(machine, configuration)
    assert done.exit_status != 0
    assert reason in done.stderr


async def test_a_token_with_another_secret_is_refused(joining: Joining) -> None:
    machine = await joining.world.boot("join-secret")
    token = (await joining.plane.create_bootstrap_token()).partition(".")[0] + ".0123456789abcdef"
    configuration = await joining.configuration("join-secret", token=token)
    done = await joining.join(machine, configuration)
    assert done.exit_status == 1
    assert "failed to verify JWS signature" in done.stderr


async def test_an_api_server_that_does_not_answer_ends_in_a_message(joining: Joining) -> None:
    machine = await joining.world.boot("join-nowhere")
    configuration = await joining.configuration(
        "join-nowhere", endpoint="127.201.250.250:6443", timeouts={"discovery": "2s"}
    )
    started = time.monotonic()
    done = await joining.join(machine, configuration)
    assert done.exit_status == 1
    assert "failed to request the cluster-info ConfigMap" in done.stderr
    assert time.monotonic() - started < 120  # by default it would try for five minutes


async def test_an_unknown_field_is_refused(joining: Joining) -> None:
    machine = await joining.world.boot("join-field")
    configuration = await joining.configuration("join-field")
    configuration["nodeRegistration"]["kubeletExtraArg"] = []
    done = await joining.join(machine, configuration)
    assert done.exit_status == 3
    assert 'unknown field "nodeRegistration.kubeletExtraArg"' in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("node-labels", "node-role.kubernetes.io/gpu=yes", "unknown 'kubernetes.io' or 'k8s.io' labels"),
        ("no-such-flag", "1", "unknown flag: --no-such-flag"),
    ],
)
async def test_a_kubelet_that_would_not_start_fails_the_join(
    joining: Joining, name: str, value: str, reason: str
) -> None:
    machine = await joining.world.boot("join-flags")
    configuration = await joining.configuration("join-flags")
    configuration["nodeRegistration"]["kubeletExtraArgs"] = [{"name": name, "value": value}]
    done = await joining.join(machine, configuration)
    assert done.exit_status == 1
    assert reason in done.stderr
    assert (await joining.world.run(machine, "systemctl is-active kubelet")).stdout == "failed\n"


async def test_a_detached_join_can_be_polled(joining: Joining) -> None:
    machine = await joining.world.boot("join-detached")
    configuration = yaml.safe_dump(await joining.configuration("join-detached"))
    await joining.put(machine, ".outlast/join.yaml", configuration)
    script = textwrap.dedent(f"""
        {_JOIN} >.outlast/join.log 2>&1
        echo $? >.outlast/join.exit
    """)
    await joining.put(machine, ".outlast/join.sh", script)
    await joining.world.run(machine, "setsid --fork sh .outlast/join.sh </dev/null >/dev/null 2>&1")

    async def ended() -> str:
        return str((await joining.world.run(machine, "cat .outlast/join.exit")).stdout)

    assert await eventually("exit code of the join", ended) == "0\n"


async def test_a_join_ends_with_its_caller(joining: Joining) -> None:
    machine = await joining.world.boot("join-timeout")
    configuration = await joining.configuration("join-timeout", endpoint="127.201.250.250:6443")
    await joining.put(machine, ".outlast/join.yaml", yaml.safe_dump(configuration))
    started = time.monotonic()
    done = await joining.world.run(machine, f"sudo -n timeout 1 sh -c '{_JOIN}'")
    assert done.exit_status == 124
    assert time.monotonic() - started < 120  # and not after the five minutes for which kubeadm tries


async def test_the_node_dies_with_its_machine_and_comes_back_with_it(joining: Joining) -> None:
    machine = await joining.world.boot("join-power")
    assert (await joining.join(machine, await joining.configuration("join-power"))).exit_status == 0
    await joining.ready("join-power")
    await machine.power_off(0)
    before = (await joining.admin.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/join-power"))[
        "spec"
    ]
    await asyncio.sleep(1.5)
    after = (await joining.admin.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/join-power"))[
        "spec"
    ]
    assert before["renewTime"] == after["renewTime"]
    await joining.ready("join-power", "Unknown")
    await machine.boot()
    await joining.ready("join-power")
