"""A sandbox whose VMs join an existing cluster, here that of another sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import join_obstacles
from sandbox.binaries import Binaries
from sandbox.checkpoint_operator import ACCOUNT, ACCOUNT_NAMESPACE, RBAC
from sandbox.checkpoint_operator.operator import CRD
from sandbox.cloud import Cloud
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.existing_cluster import ExistingCluster
from sandbox.kube_client import KubeClient
from sandbox.kubeconfig import by_token, kubeconfig
from sandbox.settings import Part, Settings
from tests.sandbox.bought import buy, join
from tests.sandbox.checkpoints import Backups
from tests.sandbox.light_nodes import eventually, start_training
from tests.servers import up

TOKEN_BINDINGS = ("kubeadm:kubelet-bootstrap", "kubeadm:node-autoapprove-bootstrap", "kubeadm:get-nodes")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plane(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    async with up(ControlPlane(Settings(state_dir=tmp_path_factory.mktemp("somebody")), executables)) as plane:
        yield plane


@pytest_asyncio.fixture
async def owned(plane: ControlPlane) -> AsyncIterator[ControlPlane]:
    """Give a test somebody's cluster, which is complete when the test begins."""
    yield plane
    await plane._upload()
    for what in (("-f", RBAC), ("-f", CRD), ("namespace/outlast-system", "node/ghost")):
        await plane.kubectl("delete", "--ignore-not-found", *what)


@pytest.fixture
def settings(plane: ControlPlane, tmp_path: Path) -> Settings:
    parts: tuple[Part, ...] = ("kubernetes", "registry", "gce")
    return Settings(state_dir=tmp_path / "ours", parts=parts, kubeconfig=plane.kubeconfig, speed=20)


async def refusal(settings: Settings) -> str:
    """Return what a sandbox says that cannot use the cluster."""
    with pytest.raises(SandboxError) as raised:
        await Cloud(settings).up()
    return str(raised.value)


async def remains(owned: ControlPlane) -> set[str]:
    """Return what is in the cluster that a sandbox may put there."""
    kinds = "nodes,clusterroles,clusterrolebindings,serviceaccounts,secrets"
    found = await owned.kubectl("get", kinds, "--all-namespaces", "-o", "name")
    return set(found.split())


@pytest.mark.e2e
async def test_a_vm_joins_it_is_checkpointed_there_and_leaves_no_trace(owned: ControlPlane, settings: Settings) -> None:
    before = await remains(owned)
    async with Cloud(settings) as cloud:
        assert cloud.registry
        await join(cloud, await buy(cloud, "guest-1"))
        admin = KubeClient.from_kubeconfig(owned.kubeconfig)
        try:
            await start_training(admin, "default", "train", "guest-1")
            backups = Backups(admin, "default", cloud.registry.address)
            await backups.create_secret()
            await backups.create("one", "train")
            assert (await backups.reach("one"))["phase"] == "Completed"
            assert "step=" in await owned.kubectl("logs", "train")
            await owned.kubectl("delete", "checkpointbackup/one", "pod/train", "secret/credentials")
        finally:
            await admin.close()
        assert not any(process.startswith("kube") for process in cloud.processes)
    assert await remains(owned) - before == set()
    assert "checkpointbackups.migration.dcnlab.com" in await owned.kubectl("get", "crds", "-o", "name")


async def test_what_is_installed_goes_and_its_crds_stay(
    owned: ControlPlane, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "namespace.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: outlast-system}}")
    (tmp_path / "crd.yaml").write_text(CRD.read_text())
    (tmp_path / "kustomization.yaml").write_text("resources: [crd.yaml, namespace.yaml]")
    async with Cloud(settings) as cloud:
        assert cloud.control_plane
        await cloud.control_plane.install("-k", tmp_path)
        assert "namespace/outlast-system" in await owned.kubectl("get", "namespaces", "-o", "name")

    async def gone() -> bool:
        return "namespace/outlast-system" not in await owned.kubectl("get", "namespaces", "-o", "name")

    await eventually("the namespace is gone", gone)
    assert "checkpointbackups.migration.dcnlab.com" in await owned.kubectl("get", "crds", "-o", "name")


async def test_it_is_used_a_second_time(owned: ControlPlane, settings: Settings) -> None:
    for _ in range(2):
        async with Cloud(settings) as cloud:
            assert cloud.addresses["CONTROL_PLANE_ENDPOINT"] == owned.endpoint
            assert cloud.addresses["CA_CERT_HASH"] == owned.ca_hash


async def test_all_that_is_missing_is_told_at_once_with_the_remedy(owned: ControlPlane, settings: Settings) -> None:
    await owned.kubectl("delete", "clusterrolebindings", *TOKEN_BINDINGS)
    await owned.kubectl("delete", "configmap", "cluster-info", "--namespace=kube-public")
    await owned.kubectl("delete", "configmap", "kubelet-config", "--namespace=kube-system")
    first, *lines = (await refusal(settings)).splitlines()
    assert first == f"the cluster of {settings.kubeconfig} cannot be used as it is:"
    expected = {
        "not everybody can read the ConfigMap kube-public/cluster-info": "bootstrap-token",
        "may not ask for a node's certificate": "bootstrap-token",
        "may not have their node's certificate approved": "bootstrap-token",
        "may not see whether a Node of their name exists": "bootstrap-token",
        "joining nodes cannot read the ConfigMap kube-system/kubelet-config": "upload-config all",
    }
    assert len(lines) == len(expected)
    for (what, phase), line in zip(expected.items(), lines, strict=True):
        assert what in line
        assert line.endswith(f"kubeadm init phase {phase} --kubeconfig {settings.kubeconfig}")


async def test_a_token_that_is_not_accepted_or_signed_for_is_told(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_obstacles, "SIGNING_SECONDS", 0.5)
    unsigned, refused = await join_obstacles.obstacles(
        control_plane.url, control_plane.ca_file, "abcdef.0123456789abcdef", control_plane.kubeconfig
    )
    assert "--controllers=*,bootstrap-signer-controller" in unsigned
    assert "--enable-bootstrap-token-auth=true" in refused


async def test_a_cluster_info_that_leads_nowhere_is_told(owned: ControlPlane, settings: Settings) -> None:
    elsewhere = kubeconfig("https://127.0.0.1:1", owned.ca_file.read_bytes())
    patch = json.dumps({"data": {"kubeconfig": elsewhere}})
    await owned.kubectl("patch", "configmap", "cluster-info", "--namespace=kube-public", "--patch", patch)
    assert "sends nodes to https://127.0.0.1:1, which does not answer here" in await refusal(settings)


async def test_another_checkpoint_operator_is_told(owned: ControlPlane, settings: Settings) -> None:
    await owned.kubectl("apply", "-f", CRD)
    await owned.kubectl("apply", "-f", RBAC)
    text = await refusal(settings)
    assert "another checkpoint operator serves it" in text
    assert "the checkpoint operator of another sandbox serves it" in text
    assert ACCOUNT in await owned.kubectl("get", "serviceaccounts", "--namespace", ACCOUNT_NAMESPACE, "-o", "name")


async def test_nodes_of_a_crashed_sandbox_are_told(owned: ControlPlane, settings: Settings) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ghost"}}
    status = {"status": {"addresses": [{"type": "InternalIP", "address": "127.77.1.2"}]}}
    await owned.kubectl("create", "-f", "-", stdin=json.dumps(node))
    await owned.kubectl("patch", "node", "ghost", "--subresource=status", "--patch", json.dumps(status))
    assert "kubectl delete nodes ghost" in await refusal(settings)
    assert await owned.kubectl("get", "nodes", "-o", "name") == "node/ghost\n"


async def test_an_installation_of_outlast_is_told_if_it_would_be_overwritten(
    owned: ControlPlane, settings: Settings
) -> None:
    await owned.kubectl("create", "namespace", "outlast-system")
    text = await refusal(Settings(settings.state_dir, kubeconfig=settings.kubeconfig, product=True))
    assert "Outlast is installed there" in text
    async with Cloud(settings) as cloud:
        assert cloud.gce


async def test_a_user_of_little_rights_is_told(owned: ControlPlane, settings: Settings, tmp_path: Path) -> None:
    token = await owned.kubectl("create", "token", "default")
    modest = tmp_path / "modest.kubeconfig"
    modest.write_text(kubeconfig(owned.url, owned.ca_file.read_bytes(), "modest", by_token(token.strip())))
    text = await refusal(Settings(tmp_path / "ours", settings.parts, modest))
    assert f"{modest} is not an administrator's" in text


async def test_a_cluster_that_is_down_is_told(owned: ControlPlane, settings: Settings, tmp_path: Path) -> None:
    gone = tmp_path / "gone.kubeconfig"
    gone.write_text(owned.kubeconfig.read_text().replace(owned.url, "https://127.0.0.1:1"))
    text = await refusal(Settings(tmp_path / "ours", settings.parts, gone))
    assert f"https://127.0.0.1:1 of {gone} is not ready: " in text


async def test_a_missing_file_is_told(settings: Settings, tmp_path: Path) -> None:
    missing = Settings(settings.state_dir, settings.parts, tmp_path / "config")
    assert await refusal(missing) == f"there is no kubeconfig {missing.kubeconfig}"


async def test_a_failed_start_leaves_no_token_behind(owned: ControlPlane, settings: Settings) -> None:
    await owned.kubectl("delete", "clusterrolebindings", TOKEN_BINDINGS[0])
    await refusal(settings)

    async def none() -> bool:
        return "bootstrap-token" not in await owned.kubectl("get", "secrets", "--namespace=kube-system", "-o", "name")

    await eventually("no bootstrap tokens", none)


def test_without_vms_an_existing_cluster_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no VMs that could join"):
        Settings(state_dir=tmp_path, parts=("kubernetes",), kubeconfig=tmp_path / "config")


def test_its_url_may_have_the_port_of_https(tmp_path: Path, settings: Settings) -> None:
    cluster = ExistingCluster(settings, tmp_path / "kubectl")
    cluster.url = "https://203.0.113.10"
    assert cluster.endpoint == "203.0.113.10:443"
