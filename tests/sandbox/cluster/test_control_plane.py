import asyncio
import json

import aiohttp
import pytest

from sandbox.binaries import Binaries
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.kubeconfig import by_token, kubeconfig
from sandbox.kubectl import Kubectl
from sandbox.processes import leftovers
from sandbox.settings import Settings


async def test_leaves_no_process_behind(executables: Binaries, tmp_path) -> None:
    plane = ControlPlane(Settings(state_dir=tmp_path), executables)
    try:
        await plane.up()
        assert len(leftovers(tmp_path)) == 4
    finally:
        await plane.down()
    assert leftovers(tmp_path) == []


async def test_says_its_version(control_plane: ControlPlane) -> None:
    version = json.loads(await control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.36.3"


async def test_cluster_info_is_readable_by_anybody_and_signed_for_a_token(control_plane: ControlPlane) -> None:
    token = await control_plane.create_bootstrap_token()
    signature = f"jws-kubeconfig-{token.partition('.')[0]}"
    url = f"{control_plane.url}/api/v1/namespaces/kube-public/configmaps/cluster-info"
    async with aiohttp.ClientSession() as anonymous, asyncio.timeout(120):
        data: dict[str, str] = {}
        while signature not in data:
            async with anonymous.get(url, ssl=False) as answer:
                data = (await answer.json())["data"]
            await asyncio.sleep(0.1)
    assert control_plane.url in data["kubeconfig"]


async def test_a_bootstrap_token_may_ask_for_a_node_certificate_and_little_else(
    control_plane: ControlPlane, executables: Binaries, tmp_path
) -> None:
    joining = await _kubectl_with_token(control_plane, executables, tmp_path)
    assert await _may(joining, "create", "certificatesigningrequests", group="certificates.k8s.io")
    assert await _may(joining, "get", "nodes")
    assert await _may(joining, "get", "configmaps", "kubelet-config", "kube-system")
    assert not await _may(joining, "get", "secrets", namespace="kube-system")
    assert not await _may(joining, "create", "pods", namespace="default")


async def test_an_expired_bootstrap_token_is_refused(
    control_plane: ControlPlane, executables: Binaries, tmp_path
) -> None:
    late = await _kubectl_with_token(control_plane, executables, tmp_path, ttl=-1)
    with pytest.raises(SandboxError, match=r"must be logged in|Unauthorized"):
        await late("get", "nodes")


async def _kubectl_with_token(control_plane: ControlPlane, executables: Binaries, tmp_path, ttl: float = 60) -> Kubectl:
    token = await control_plane.create_bootstrap_token(ttl)
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(control_plane.url, control_plane.ca_file.read_bytes(), "joining", by_token(token)))
    return Kubectl(executables.kubectl, config)


async def _may(
    kubectl: Kubectl, verb: str, resource: str, name: str = "", namespace: str = "", group: str = ""
) -> bool:
    attributes = {"verb": verb, "resource": resource, "name": name, "namespace": namespace, "group": group}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return (
        await kubectl(
            "create", "--validate=false", "-f", "-", "-o", "jsonpath={.status.allowed}", stdin=json.dumps(review)
        )
        == "true"
    )
