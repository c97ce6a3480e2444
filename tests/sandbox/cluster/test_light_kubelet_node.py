"""A light node as a node: registration, heartbeats, access to its API, and its two ways to die."""

from __future__ import annotations

import contextlib
import tarfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client, config

from sandbox.control_plane import ControlPlane
from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light.kubelet.container import DUMP_SECONDS
from tests.sandbox.light_nodes import Nodes, condition, env, eventually, training_pod

Json = dict[str, Any]


async def ready_status(admin: KubeClient, node: str) -> Json:
    return condition((await admin.get(f"/api/v1/nodes/{node}"))["status"], "Ready")


async def running_pod(admin: KubeClient, namespace: str, pod: Json) -> str:
    """Create a pod, wait until it runs, and return its path."""
    name = pod["metadata"]["name"]
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"

    async def runs() -> bool:
        return (await admin.get(path))["status"].get("phase") == "Running"

    await eventually(f"pod {name} Running", runs)
    return path


async def test_the_node_registers_with_what_it_was_given(admin: KubeClient, nodes: Nodes) -> None:
    taint = {"key": "nvidia.com/gpu", "value": "job", "effect": "NoSchedule"}
    name = await nodes.start(gpus=2, taints=[taint], node_labels={"topology.kubernetes.io/zone": "us-central1-a"})
    node = await admin.get(f"/api/v1/nodes/{name}")
    assert node["spec"]["providerID"] == f"gce://test/zone/{name}"
    assert taint in node["spec"]["taints"]
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "us-central1-a"
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "2"
    assert {entry["type"] for entry in node["status"]["addresses"]} == {"InternalIP", "Hostname"}
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36")


async def test_a_killed_node_turns_not_ready_and_says_nothing_more(
    admin: KubeClient, namespace: str, nodes: Nodes
) -> None:
    name = await nodes.start()
    path = await running_pod(admin, namespace, training_pod("dies", name))
    await nodes.kubelets[name].kill()

    async def unknown() -> bool:
        return (await ready_status(admin, name))["status"] == "Unknown"

    await eventually("Ready=Unknown", unknown, seconds=120)
    # Nobody told the API server that the pod ended: it still "runs" on the dead node.
    assert (await admin.get(path))["status"]["phase"] == "Running"


@pytest.mark.parametrize(("on_sigterm", "exit_code"), [("exit143", 143), ("exit0", 0)])
async def test_a_graceful_shutdown_fails_the_pods_and_keeps_their_exit_codes(
    admin: KubeClient, namespace: str, nodes: Nodes, on_sigterm: str, exit_code: int
) -> None:
    name = await nodes.start()
    container = {"env": env(SANDBOX_ON_SIGTERM=on_sigterm)}
    path = await running_pod(admin, namespace, training_pod("told", name, container=container))
    await nodes.kubelets[name].shutdown(grace=10)
    status = (await admin.get(path))["status"]
    assert status["phase"] == "Failed"
    assert status["reason"] == "Terminated"
    assert status["message"] == "Pod was terminated in response to imminent node shutdown."
    assert condition(status, "DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == exit_code
    ready = await ready_status(admin, name)
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert ready["message"] == "node is shutting down"


async def test_a_shutdown_takes_no_longer_than_its_grace(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    name = await nodes.start()
    container = {"env": env(SANDBOX_ON_SIGTERM="ignore")}
    await running_pod(admin, namespace, training_pod("stubborn", name, container=container))
    began = time.monotonic()
    await nodes.kubelets[name].shutdown(grace=2)
    assert time.monotonic() - began < 60  # the training would take more than an hour


async def test_without_a_shutdown_grace_period_pods_are_told_nothing(
    admin: KubeClient, namespace: str, nodes: Nodes
) -> None:
    name = await nodes.start(shutdown_grace=0.0)
    path = await running_pod(admin, namespace, training_pod("untold", name))
    await nodes.kubelets[name].shutdown(grace=10)
    assert (await admin.get(path))["status"]["phase"] == "Running"


async def test_a_critical_pod_outlives_the_others(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    name = await nodes.start(gpus=2)
    first = await running_pod(admin, namespace, training_pod("plain", name))
    critical = training_pod("critical", name, priorityClassName="system-node-critical")
    second = await running_pod(admin, namespace, critical)
    await nodes.kubelets[name].shutdown(grace=10)
    ends = [
        (await admin.get(path))["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
        for path in (first, second)
    ]
    assert ends[0] <= ends[1]


async def test_the_kubelet_lets_no_stranger_in(admin: KubeClient, nodes: Nodes) -> None:
    name = await nodes.start()
    addresses = (await admin.get(f"/api/v1/nodes/{name}"))["status"]["addresses"]
    url = f"https://{addresses[0]['address']}:10250/pods"
    async with aiohttp.ClientSession() as session:
        async with session.get(url, ssl=False) as answer:
            assert answer.status == 401
        async with session.get(url, ssl=False, headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == 401


async def test_a_token_needs_the_right_to_checkpoint(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    name = await nodes.start()
    await running_pod(admin, namespace, training_pod("mine", name))
    address = (await admin.get(f"/api/v1/nodes/{name}"))["status"]["addresses"][0]["address"]
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    token = (await admin.create(f"{accounts}/default/token", {"spec": {}}))["status"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"https://{address}:10250/checkpoint/{namespace}/mine/trainer"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rule = {"apiGroups": [""], "resources": ["nodes/checkpoint"], "verbs": ["create"]}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(url, ssl=False) as answer:
            assert answer.status == 403
        await admin.create(f"{rbac}/clusterroles", {"metadata": {"name": namespace}, "rules": [rule]})
        binding = {"metadata": {"name": namespace}, "roleRef": role, "subjects": [subject]}
        await admin.create(f"{rbac}/clusterrolebindings", binding)

        async def dumped() -> str | None:
            async with session.post(url, ssl=False) as answer:
                return (await answer.json())["items"][0] if answer.status == 200 else None

        path = await eventually("a dump", dumped)
    await admin.delete(f"{rbac}/clusterrolebindings/{namespace}")
    await admin.delete(f"{rbac}/clusterroles/{namespace}")
    assert tarfile.is_tarfile(path)


@pytest.mark.parametrize(("pod", "container", "status"), [("no", "trainer", 404), ("mine", "no", 404)])
async def test_what_is_not_there_cannot_be_dumped(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane, pod: str, container: str, status: int
) -> None:
    name = await nodes.start()
    await running_pod(admin, namespace, training_pod("mine", name))
    with pytest.raises(ApiError) as refused:
        await checkpoint(control_plane, admin, name, f"{namespace}/{pod}/{container}")
    assert refused.value.status == status


async def test_a_container_that_ended_cannot_be_dumped(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane
) -> None:
    name = await nodes.start()
    container = {"env": env(SANDBOX_STEPS=1)}
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", training_pod("over", name, container=container))

    async def over() -> bool:
        pod = await admin.get(f"/api/v1/namespaces/{namespace}/pods/over")
        return pod["status"].get("phase") == "Succeeded"

    await eventually("pod Succeeded", over)
    with pytest.raises(ApiError) as refused:
        await checkpoint(control_plane, admin, name, f"{namespace}/over/trainer")
    assert refused.value.status == 500


async def test_the_process_makes_no_step_while_it_is_dumped(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane
) -> None:
    name = await nodes.start(speed=1)  # a dump takes seconds, longer than even a busy machine needs for a step
    container = {"env": env(SANDBOX_STEP_SECONDS=0.05)}
    await running_pod(admin, namespace, training_pod("frozen", name, container=container))

    async def longest_pause() -> float:
        lines = await control_plane.kubectl("logs", "frozen", "-n", namespace, "--timestamps")
        times = [datetime.fromisoformat(line.split()[0]) for line in lines.splitlines()]
        return max(((after - before).total_seconds() for before, after in pairwise(times)), default=0.0)

    await checkpoint(control_plane, admin, name, f"{namespace}/frozen/trainer")

    async def has_paused() -> bool:
        return await longest_pause() >= DUMP_SECONDS

    await eventually("steps after the dump, and none during it", has_paused)


async def test_our_own_program_runs_as_a_process_with_its_pods_identity(
    admin: KubeClient, namespace: str, nodes: Nodes
) -> None:
    """It is recognised by its command line and really run, with a kubeconfig that the API server accepts."""
    name = await nodes.start(environment={"GCE_METADATA_HOST": "127.0.0.1:9"})
    variables = [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    container = {"command": ["python", "-m", "programs.node_agent"], "args": ["--help"], "env": variables}
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", training_pod("agent", name, container=container))

    async def ended() -> Json | None:
        pod = await admin.get(f"/api/v1/namespaces/{namespace}/pods/agent")
        return pod if pod["status"].get("phase") in ("Succeeded", "Failed", "Running") else None

    pod = await eventually("agent started", ended)
    uid = pod["metadata"]["uid"]
    directory = nodes.root(name) / "var/lib/kubelet/pods" / uid / "service-account"
    # The client of our programs has to be able to read the file.
    api = await config.new_client_from_config(str(directory / "kubeconfig"))
    async with api:
        review = await client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
    user = review.status.user_info
    assert user.username == f"system:serviceaccount:{namespace}:default"
    assert user.extra["authentication.kubernetes.io/node-name"] == [name]


@pytest.fixture
async def process(admin: KubeClient, namespace: str, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Run a real process on a machine; yields the machine's name and the path of its pod."""
    # A program of Python's own, which does not end, instead of the one that is run as a process.
    monkeypatch.setattr("sandbox.machines.light.kubelet.container.OUR_PROGRAM", ("python", "-m", "http.server"))
    name = await nodes.start()
    container = {"command": ["python", "-m", "http.server", "--bind", "127.0.0.1", "0"]}
    return name, await running_pod(admin, namespace, training_pod("server", name, container=container))


async def test_no_process_outlives_its_machine(process: tuple[str, str], nodes: Nodes) -> None:
    name, _ = process

    async def running() -> list[int]:
        return processes_of(nodes.root(name))

    await eventually("the process", running)
    await nodes.kubelets[name].kill()
    assert not processes_of(nodes.root(name))


async def test_a_force_deleted_pod_ends_too(process: tuple[str, str], admin: KubeClient, nodes: Nodes) -> None:
    name, path = process
    await admin.delete(path, {"gracePeriodSeconds": 0})

    async def ended() -> bool:
        return not processes_of(nodes.root(name))

    await eventually("the end of the process", ended)


def processes_of(machine: Path) -> list[int]:
    """Return the processes whose environment names a machine's directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(machine).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


async def checkpoint(control_plane: ControlPlane, admin: KubeClient, node: str, container: str) -> Json:
    """Send POST /checkpoint to a node's kubelet, as the administrator."""
    address = (await admin.get(f"/api/v1/nodes/{node}"))["status"]["addresses"][0]["address"]
    kubelet = KubeClient.from_kubeconfig(control_plane.kubeconfig, kubelet=f"{address}:10250")
    try:
        return await kubelet.call("POST", f"/checkpoint/{container}", seconds=30)
    finally:
        await kubelet.close()
