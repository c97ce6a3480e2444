"""Joining, with light machines: real SSH, a real bootstrap at a real API server, a node that lives."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest
import yaml
from temporalio.exceptions import ApplicationError

from activities.certificates.approver import REQUESTS
from activities.compute.activities import ComputeActivities
from activities.compute.gcp import GcpCloud
from activities.join import activities as join_module
from activities.join import ssh
from activities.join.activities import JoinActivities
from activities.join.ssh import SshKeys
from activities.join.tokens import token_id_of
from activities.kubernetes.daemons import AGENT, VALIDATOR, DaemonNamespaces, Daemons
from activities.kubernetes.nodes import NodeActivities
from activities.kubernetes.secret import read_secret
from activities.signatures import (
    CreateVm,
    JoinProgress,
    NodeRef,
    ObserveCreate,
    PrepareNode,
    StartJoin,
    TokenRef,
    VmRef,
)
from api import errors
from api.market import Candidate
from api.names import vm_name
from api.spot_instance_vm import SpotInstanceVMSpec
from api.views import AgentView
from clients.informer import Informer
from clients.kube import Kube, path
from sandbox.claims import claim_octet
from sandbox.control_plane import ControlPlane
from sandbox.gce import GceEmulator
from sandbox.machines.light import LightMachine, LightMachines
from sandbox.settings import Settings
from tests.activities.world import eventually, run

ZONE = "us-central1-a"
SPEED = 20.0
T = TypeVar("T")


def everything_in(namespace: str) -> DaemonNamespaces:
    return DaemonNamespaces(gpu_operator=namespace, agent=namespace)


class Setting:
    """An emulated cloud of light machines, and the activities that make them nodes."""

    def __init__(self, settings: Settings, kube: Kube, namespace: str, key_file: Path) -> None:
        self.machines = LightMachines(settings)
        self.gce = GceEmulator(settings, self.machines)
        self.kube = kube
        self.namespace = namespace
        self._key_file = key_file
        self._settings = settings

    async def start(self) -> None:
        keys = SshKeys(self.kube, self._key_file)
        self.cloud = GcpCloud(self.kube, await self.gce.start())
        self.compute = ComputeActivities(self.cloud, keys)
        self.join = JoinActivities(self.cloud, self.kube, Informer(self.kube, REQUESTS), keys, self._settings.ssh_port)
        self.nodes = NodeActivities(self.kube, Daemons(self.kube, where=everything_in(self.namespace)))

    async def stop(self) -> None:
        names = [machine["name"] for machine in self.gce.instances()]
        self.cloud.close()
        await self.gce.stop()
        for name in names:
            await self.kube.delete(f"/api/v1/nodes/{name}")

    async def run(self, call: Callable[[Any], Awaitable[T]], argument: Any) -> T:
        return await run(call, argument)

    async def vm(self, key: str = "0badcafe-r0-v1", **spec: Any) -> StartJoin:
        """Buy a VM and make the request to join it."""
        document = {
            "vmImage": "ubuntu-2404-lts-amd64",
            "gpu": {"type": "nvidia-tesla-t4", "count": 2},
            "gcp": {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4"},
            **spec,
        }
        # Nodes have no namespace, so their names have to differ between tests.
        attempt = int(self.namespace.rpartition("-")[2], 16) % 10**9
        vm = VmRef(project="demo", zone=ZONE, name=vm_name(key, attempt), namespace=self.namespace)
        read = SpotInstanceVMSpec.model_validate(document)
        made = CreateVm(vm=vm, spec=read, candidate=Candidate(zone=vm.zone, machine_type="n1-standard-4", gpu=read.gpu))
        operation = await self.run(self.compute.create_vm, made)
        progress = await self.run(self.compute.observe_create, ObserveCreate(vm=vm, operation=operation.name))
        assert progress.vm.status == "RUNNING", progress
        return StartJoin(
            vm=vm,
            spec=made.spec,
            address=progress.vm.internal_ip or "",
            job_id="0badcafe",
            cluster_id="c1",
            provider_id=f"gce://demo/{ZONE}/{vm.name}",
            namespace=self.namespace,
        )

    async def starts(self, join: StartJoin, message: str) -> JoinProgress:
        """Start a join again and again, as its workflow does, until this is said of it."""

        async def said() -> JoinProgress | None:
            progress = await self.run(self.join.start_join, join)
            return progress if message in progress.message else None

        return await eventually(message, said)

    async def joined(self, join: StartJoin) -> JoinProgress:
        """Join a VM to the end."""

        async def begun() -> bool:
            return (await self.run(self.join.start_join, join)).state not in ("Booting", "Unreachable")

        await eventually("the join begins", begun)
        return await self.observed(join)

    async def observed(self, join: StartJoin) -> JoinProgress:
        """Observe a join until it has ended, as its workflow does."""

        async def ended() -> JoinProgress | None:
            progress = await self.run(self.join.observe_join, join)
            return progress if progress.state != "Running" else None

        return await eventually("the end of the join", ended)

    async def daemon_set(self, name: str, labels: dict[str, str], image: str) -> str:
        """Create a DaemonSet on the machines, and return its path."""
        spec = {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": name, "image": image, "command": ["sleep", "3600"]}],
        }
        template = {"metadata": {"labels": labels}, "spec": spec}
        body = {"metadata": {"name": name, "labels": labels}}
        sets = path("apps/v1", "daemonsets", self.namespace)
        await self.kube.create(sets, {**body, "spec": {"selector": {"matchLabels": labels}, "template": template}})
        return f"{sets}/{name}"

    async def token(self, join: StartJoin) -> dict[str, str]:
        """Read the token that was made for this VM."""
        return await read_secret(self.kube, "kube-system", f"bootstrap-token-{token_id_of(join.vm.name)}")

    async def find_token(self, join: StartJoin) -> Any:
        return await self.kube.find(
            path("v1", "secrets", "kube-system", f"bootstrap-token-{token_id_of(join.vm.name)}")
        )

    def machine(self, join: StartJoin) -> LightMachine:
        return self.machines.machine(join.vm.name)

    async def node(self, join: StartJoin) -> Any:
        """Wait for the Node until the workflow would use it: Ready, with its GPUs registered by the device plugin."""
        assert join.spec.gpu
        async with asyncio.timeout(120):
            while True:
                readiness = await self.run(self.nodes.observe_node, NodeRef(name=join.vm.name))
                if readiness.view.ready and readiness.view.gpus >= join.spec.gpu.count:
                    return await self.kube.get(f"/api/v1/nodes/{join.vm.name}")
                await asyncio.sleep(0.1)


@pytest.fixture
async def setting(kube: Kube, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Setting]:
    octet, claim = claim_octet(2222)
    key_file = tmp_path / "id_ed25519"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key_file)
    settings = Settings(state_dir=tmp_path, speed=SPEED, octet=octet)
    settings.admin_kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    settings.admin_kubeconfig.symlink_to(control_plane.kubeconfig)
    made = Setting(settings, kube, namespace, key_file)
    await made.start()
    yield made
    await made.stop()
    socket.socket.close(claim)


async def test_a_machine_becomes_a_node_of_its_buyer(setting: Setting) -> None:
    join = await setting.vm()
    progress = await setting.joined(join)
    assert progress.state == "Joined", progress
    node = await setting.node(join)
    assert node["spec"]["providerID"] == join.provider_id
    assert {"key": "nvidia.com/gpu", "value": "0badcafe", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"


async def test_the_fingerprint_says_where_its_images_run(setting: Setting) -> None:
    progress = await setting.joined(await setting.vm())
    assert progress.fingerprint["gpu"] == "nvidia-tesla-t4"
    assert progress.fingerprint["gpuCount"] == "2"
    assert {"kernel", "cpu", "driver", "runtime"} <= progress.fingerprint.keys()


async def test_the_kubelet_gets_time_to_shut_down(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    config = yaml.safe_load((setting.machine(join).root / "var/lib/kubelet/config.yaml").read_text())
    assert (config["shutdownGracePeriod"], config["shutdownGracePeriodCriticalPods"]) == ("25s", "5s")


async def test_nothing_secret_is_left_on_the_machine(setting: Setting) -> None:
    join = await setting.vm()
    await setting.run(setting.join.start_join, join)
    directory = setting.machine(join).root / ".outlast"
    secret = await setting.token(join)
    assert (await setting.observed(join)).state == "Joined"
    assert not (directory / "join.yaml").exists()
    assert [f for f in directory.rglob("*") if f.is_file() and secret["token-secret"] in f.read_text()] == []


async def test_the_token_lives_for_half_an_hour_and_can_be_revoked(setting: Setting) -> None:
    join = await setting.vm()
    progress = await setting.run(setting.join.start_join, join)
    path = f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{progress.token_id}"
    secret = await setting.kube.get(path)
    assert secret["metadata"]["labels"]["training.dcnlab.com/job"] == "0badcafe"
    assert base64.b64decode(secret["data"]["expiration"]).endswith(b"Z")
    await setting.run(setting.join.revoke_token, TokenRef(token_id=progress.token_id or ""))
    assert await setting.kube.find(path) is None
    await setting.run(setting.join.revoke_token, TokenRef(token_id=progress.token_id or ""))


async def test_the_token_ends_with_the_join(setting: Setting) -> None:
    join = await setting.vm()
    progress = await setting.joined(join)
    assert progress.state == "Joined", progress
    assert await setting.find_token(join) is None


async def test_a_token_that_nobody_revoked_goes_with_the_node(setting: Setting) -> None:
    join = await setting.vm()
    await setting.run(setting.join.start_join, join)
    assert await setting.find_token(join) is not None
    await setting.run(setting.nodes.delete_node, NodeRef(name=join.vm.name))
    assert await setting.find_token(join) is None


async def test_two_starts_at_once_join_once(setting: Setting) -> None:
    join = await setting.vm()
    await asyncio.gather(*(setting.run(setting.join.start_join, join) for _ in range(3)))
    progress = await setting.observed(join)
    assert progress.state == "Joined", progress
    log = (setting.machine(join).root / ".outlast/join.log").read_text()
    assert log.count("This node has joined the cluster") == 1
    assert "[reset]" not in log, log


async def test_a_start_after_the_join_changes_nothing(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    again = await setting.run(setting.join.start_join, join)
    assert (again.state, again.token_id) == ("Joined", None), "no second token is minted"


async def test_a_machine_that_boots(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 0)
    progress = await setting.run(setting.join.start_join, await setting.vm())
    assert progress.state == "Booting"
    assert "host keys" in progress.message


async def test_a_startup_script_is_waited_for(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    join = await setting.vm(startupScript="#!/bin/sh\nuntil [ -e go ]; do sleep 0.1; done\n")
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 1)
    assert (await setting.starts(join, "the startup script runs")).state == "Booting"
    (setting.machine(join).root / "go").touch()
    monkeypatch.undo()
    assert (await setting.joined(join)).state == "Joined"


async def test_another_machine_at_this_address_is_not_trusted(setting: Setting) -> None:
    join = await setting.vm()
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]
    machine = setting.machine(join)

    async def published() -> bool:
        return "hostkeys/ssh-ed25519" in machine.guest_attributes

    await eventually("its own key", published)
    machine.metadata.publish("hostkeys/ssh-ed25519", other)
    with pytest.raises(ApplicationError, match="not the one that was bought") as raised:
        await setting.run(setting.join.start_join, join)
    assert (raised.value.type, raised.value.non_retryable) == (errors.HOST_KEY, True)


async def test_a_key_that_does_not_open_it_means_not_yet(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    join = await setting.vm()
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 1)
    stranger = join.model_copy(update={"spec": join.spec.model_copy(update={"ssh_user": "nobody"})})
    progress = await setting.starts(stranger, "does not let nobody in yet")
    assert progress.state == "Unreachable"
    assert "set gcp.sshAccess: OSLogin" in progress.message


async def test_os_login_is_entered_as_the_account_of_the_credentials(setting: Setting) -> None:
    setting.gce.faults.require_os_login()
    gcp = {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4", "sshAccess": "OSLogin"}
    assert (await setting.joined(await setting.vm(gcp=gcp))).state == "Joined"


async def test_os_login_without_its_role_is_told(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.gce.faults.withdraw_permissions("compute.instances.osAdminLogin")
    gcp = {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4", "sshAccess": "OSLogin"}
    join = await setting.vm(gcp=gcp)
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 1)
    remedy = "grant the service account of the credentials roles/compute.osAdminLogin"
    assert (await setting.starts(join, remedy)).state == "Unreachable"


async def test_a_failed_join_says_why_and_is_undone_by_the_next(setting: Setting) -> None:
    wrong = {"caCertHash": "sha256:" + "0" * 64}
    join = await setting.vm(kubeadmJoinConfig=wrong)
    await setting.run(setting.join.start_join, join)
    secret = await setting.token(join)
    failed = await setting.observed(join)
    assert failed.state == "Failed"
    assert "none of the public keys" in failed.message
    assert secret["token-secret"] not in failed.message
    assert await setting.find_token(join) is None, "another try has another"
    right = join.model_copy(update={"spec": join.spec.model_copy(update={"kubeadm_join_config": None})})
    assert (await setting.joined(right)).state == "Joined"
    assert "[reset]" in (setting.machine(join).root / ".outlast/join.log").read_text()


CRIO = "var/run/crio/crio.sock"
TWO_RUNTIMES = f"mkdir -p $(dirname {CRIO}) && touch {CRIO}"


async def test_of_two_runtimes_containerd_is_used_and_people_are_told(setting: Setting) -> None:
    join = await setting.vm(startupScript=TWO_RUNTIMES)
    begun = await setting.run(setting.join.start_join, join)
    assert "the machine has containerd and CRI-O, and containerd is used" in begun.message
    assert (await setting.observed(join)).state == "Joined"


async def test_a_join_that_failed_beside_two_runtimes_is_undone_too(setting: Setting) -> None:
    join = await setting.vm(startupScript=TWO_RUNTIMES, kubeadmJoinConfig={"caCertHash": "sha256:" + "0" * 64})
    failed = await setting.joined(join)
    assert failed.state == "Failed"
    assert "set kubeadmJoinConfig.criSocket" in failed.message
    right = join.model_copy(update={"spec": join.spec.model_copy(update={"kubeadm_join_config": None})})
    assert (await setting.joined(right)).state == "Joined"
    assert "[reset]" in (setting.machine(join).root / ".outlast/join.log").read_text()


async def test_the_runtime_of_the_spec_is_used(setting: Setting) -> None:
    both = await setting.vm(startupScript=TWO_RUNTIMES, kubeadmJoinConfig={"criSocket": f"unix:///{CRIO}"})
    begun = await setting.run(setting.join.start_join, both)
    assert begun.message in {"", "kubeadm join runs"}
    assert (await setting.observed(both)).state == "Joined"


async def test_a_runtime_that_is_not_there_fails_the_join(setting: Setting) -> None:
    join = await setting.vm(kubeadmJoinConfig={"criSocket": f"unix:///{CRIO}"})
    failed = await setting.joined(join)
    assert failed.state == "Failed"
    assert f"dial unix /{CRIO}" in failed.message


async def test_a_hash_that_is_none_is_refused_before_anything_is_sent(setting: Setting) -> None:
    join = await setting.vm(kubeadmJoinConfig={"caCertHash": "sha256:abc123..."})
    with pytest.raises(ApplicationError, match=r"kubeadmJoinConfig\.caCertHash is not the hash of a") as refused:
        await setting.joined(join)
    assert (refused.value.type, refused.value.non_retryable) == (errors.INVALID, True)
    assert not (setting.machine(join).root / ".outlast/join.yaml").exists()


async def test_the_users_secret_takes_precedence(setting: Setting) -> None:
    first = await setting.vm("0badcafe-r0-v9")
    token = {"token-id": "abcdef", "token-secret": "0123456789abcdef"}
    flags = {"usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true"}
    group = {"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}
    await setting.kube.create(
        "/api/v1/namespaces/kube-system/secrets",
        {
            "metadata": {"name": "bootstrap-token-abcdef"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": token | flags | group,
        },
    )
    body = {"metadata": {"name": "kubeadm-join-token"}, "stringData": {"token": "abcdef.0123456789abcdef"}}
    await setting.kube.create(f"/api/v1/namespaces/{setting.namespace}/secrets", body)
    try:
        progress = await setting.joined(first)
        assert (progress.state, progress.token_id) == ("Joined", None)
    finally:
        await setting.run(setting.join.revoke_token, TokenRef(token_id="abcdef"))  # not ours, so it stays
        assert await setting.kube.delete("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef")


async def test_a_machine_lost_while_it_joins_is_unreachable(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    join = await setting.vm()
    await setting.run(setting.join.start_join, join)
    monkeypatch.setattr(join_module, "WATCH_SECONDS", 0)
    await setting.gce.preempt(join.vm.name, notice=0)
    assert (await setting.observed(join)).state == "Unreachable"


async def test_a_token_that_expires_before_it_is_used_is_followed_by_another(setting: Setting) -> None:
    setting.gce.faults.expire_tokens(1)
    join = await setting.vm()
    failed = await setting.joined(join)
    assert failed.state == "Failed", failed
    assert "kubeadm join ended 1" in failed.message
    assert (await setting.joined(join)).state == "Joined"


async def test_a_slow_clock_is_told_by_what_kubeadm_says(setting: Setting) -> None:
    setting.gce.faults.skew_clocks(1, seconds=86400)
    join = await setting.vm()
    failed = await setting.joined(join)
    assert failed.state == "Failed", failed
    assert "certificate has expired or is not yet valid" in failed.message


async def test_an_sshd_that_falls_silent_while_its_machine_joins(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 3)
    setting.gce.faults.hang_ssh(1)
    join = await setting.vm()
    started = await setting.run(setting.join.start_join, join)
    assert started.state in {"Running", "Joined"}, started
    progress = await setting.observed(join)
    assert progress.state == "Unreachable", progress
    assert "does not answer yet" in progress.message


async def test_a_named_secret_that_is_missing_is_said(setting: Setting) -> None:
    join = await setting.vm(kubeadmJoinConfig={"tokenSecretRef": {"name": "none"}})
    with pytest.raises(ApplicationError, match=f"Secret {setting.namespace}/none does not exist") as raised:
        await setting.run(setting.join.start_join, join)
    assert raised.value.type == errors.MISSING


# --- nodes


async def test_a_node_is_labelled_from_outside(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    uid = (await setting.node(join))["metadata"]["uid"]
    labels, annotations = {"training.dcnlab.com/job": "0badcafe"}, {"training.dcnlab.com/workflow": "default/train"}
    prepare = PrepareNode(node=NodeRef(name=join.vm.name, uid=uid), labels=labels, annotations=annotations)
    view = await setting.run(setting.nodes.prepare_node, prepare)
    assert view.uid == uid
    metadata = (await setting.node(join))["metadata"]
    assert labels.items() <= metadata["labels"].items()
    assert annotations.items() <= metadata["annotations"].items()


async def test_a_reserved_node_is_closed_from_its_registration_on(setting: Setting) -> None:
    join = (await setting.vm()).model_copy(update={"reserved": True})
    await setting.joined(join)
    node = await setting.node(join)
    keys = {taint["key"] for taint in node["spec"]["taints"]}
    assert {"nvidia.com/gpu", "training.dcnlab.com/joining"} <= keys

    ref = NodeRef(name=join.vm.name, uid=node["metadata"]["uid"])
    prepare = PrepareNode(node=ref, labels={}, annotations={}, reserved=True)
    assert not (await setting.run(setting.nodes.prepare_node, prepare)).schedulable
    spec = (await setting.node(join))["spec"]
    assert spec["unschedulable"]
    assert "training.dcnlab.com/joining" not in {taint["key"] for taint in spec["taints"]}
    assert "nvidia.com/gpu" in {taint["key"] for taint in spec["taints"]}

    await setting.kube.patch(f"/api/v1/nodes/{join.vm.name}", {"spec": {"unschedulable": False}})
    assert not (await setting.run(setting.nodes.prepare_node, prepare)).schedulable


@pytest.mark.parametrize("taints", [[], [{"key": "nvidia.com/gpu", "value": "another", "effect": "NoSchedule"}]])
async def test_a_node_that_root_registered_without_its_buyers_taint_gets_it(
    setting: Setting, taints: list[Any]
) -> None:
    join = (await setting.vm()).model_copy(update={"reserved": True})
    await setting.joined(join)
    await setting.node(join)
    await setting.kube.patch(f"/api/v1/nodes/{join.vm.name}", {"spec": {"taints": taints}})
    prepare = PrepareNode(node=NodeRef(name=join.vm.name), labels={}, annotations={}, reserved=True)
    await setting.run(setting.nodes.prepare_node, prepare)
    buyers = {"key": "nvidia.com/gpu", "value": join.job_id, "effect": "NoSchedule"}
    found = (await setting.node(join))["spec"]["taints"]
    assert [taint for taint in found if taint["key"] == "nvidia.com/gpu"] == [buyers]


async def test_taints_that_others_put_on_meanwhile_are_kept(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    join = (await setting.vm()).model_copy(update={"reserved": True})
    await setting.joined(join)
    await setting.node(join)
    where, mark = f"/api/v1/nodes/{join.vm.name}", {"key": "training.dcnlab.com/preempted", "effect": "NoSchedule"}
    find = setting.kube.find

    async def find_and_be_overtaken(path: str) -> Any:
        found = await find(path)
        if path == where and found and mark not in (taints := found["spec"]["taints"]):
            await setting.kube.patch(where, {"spec": {"taints": [*taints, mark]}})
        return found

    monkeypatch.setattr(setting.kube, "find", find_and_be_overtaken)
    prepare = PrepareNode(node=NodeRef(name=join.vm.name), labels={}, annotations={}, reserved=True)
    view = await setting.run(setting.nodes.prepare_node, prepare)
    assert view.marks == ["training.dcnlab.com/preempted"]
    assert not view.schedulable


async def test_the_gpu_operator_validates_where_it_is_installed(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    await setting.node(join)
    ref = NodeRef(name=join.vm.name)
    assert not (await setting.run(setting.nodes.observe_node, ref)).gpu_operator
    await setting.daemon_set(VALIDATOR, {"app": VALIDATOR}, "busybox")
    async with asyncio.timeout(120):
        while True:
            readiness = await setting.run(setting.nodes.observe_node, ref)
            assert readiness.gpu_operator
            if readiness.validated:
                break
            await asyncio.sleep(0.1)


async def test_how_the_node_agent_is_on_a_bought_node(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    await setting.node(join)
    ref = NodeRef(name=join.vm.name)

    async def agent() -> AgentView:
        found = (await setting.run(setting.nodes.observe_node, ref)).agent
        assert found is not None
        return found

    assert (await agent()).reason == "NotInstalled"
    # The sandbox's kubelets pull from loopback for real, and nothing listens there.
    made = await setting.daemon_set("agent", AGENT, "127.0.0.1:1/outlast:1")

    async def is_told() -> bool:
        return (await agent()).reason == "ImagePullBackOff"

    async def runs() -> bool:
        return (await agent()).running

    await eventually("what its kubelet says is told", is_told)
    assert "127.0.0.1:1/outlast:1" in (await agent()).message
    await setting.kube.delete(made, propagation="Background")
    await setting.daemon_set("again", AGENT, "busybox")
    await eventually("it runs", runs)


async def test_a_drained_node_has_no_pods_left(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    await setting.node(join)
    pod = {
        "metadata": {"name": "stranger"},
        "spec": {
            "nodeName": join.vm.name,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "3600"]}],
        },
    }
    await setting.kube.create(f"/api/v1/namespaces/{setting.namespace}/pods", pod)
    ref = NodeRef(name=join.vm.name)
    first = await setting.run(setting.nodes.cordon_and_drain, ref)
    assert first.remaining == [f"{setting.namespace}/stranger"]
    async with asyncio.timeout(120):
        while True:
            if not (await setting.run(setting.nodes.cordon_and_drain, ref)).remaining:
                break
            await asyncio.sleep(0.1)
    assert not (await setting.run(setting.nodes.observe_node, ref)).view.schedulable


async def test_a_drained_node_keeps_what_a_disruption_budget_holds(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    await setting.node(join)
    where = f"/api/v1/namespaces/{setting.namespace}/pods"
    pod = {
        "metadata": {"name": "held", "labels": {"app": "held"}},
        "spec": {
            "nodeName": join.vm.name,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "3600"]}],
        },
    }
    await setting.kube.create(where, pod)
    budget = {"metadata": {"name": "held"}, "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "held"}}}}
    await setting.kube.create(f"/apis/policy/v1/namespaces/{setting.namespace}/poddisruptionbudgets", budget)

    async def runs() -> bool:
        found: str = (await setting.kube.get(f"{where}/held"))["status"].get("phase")
        return found == "Running"

    await eventually("the pod runs", runs)
    ref = NodeRef(name=join.vm.name)
    assert (await setting.run(setting.nodes.cordon_and_drain, ref)).remaining == [f"{setting.namespace}/held"]
    assert "deletionTimestamp" not in (await setting.kube.get(f"{where}/held"))["metadata"]


async def test_only_the_node_of_this_uid_is_deleted(setting: Setting) -> None:
    join = await setting.vm()
    await setting.joined(join)
    uid = (await setting.node(join))["metadata"]["uid"]
    view = await setting.run(setting.nodes.delete_node, NodeRef(name=join.vm.name, uid="another"))
    assert not view.exists
    assert await setting.kube.find(f"/api/v1/nodes/{join.vm.name}") is not None
    await setting.gce.preempt(join.vm.name, notice=0)  # otherwise its kubelet would register it again
    assert not (await setting.run(setting.nodes.delete_node, NodeRef(name=join.vm.name, uid=uid))).exists
    assert not (await setting.run(setting.nodes.delete_node, NodeRef(name=join.vm.name, uid=uid))).exists


async def test_a_node_that_is_not_there(setting: Setting) -> None:
    ref = NodeRef(name="nothing")
    assert not (await setting.run(setting.nodes.observe_node, ref)).view.exists
    assert (await setting.run(setting.nodes.cordon_and_drain, ref)).remaining == []
    assert json.loads((await setting.run(setting.nodes.delete_node, ref)).model_dump_json())["exists"] is False
