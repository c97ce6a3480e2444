"""Pods on a light node: from Pending to their end, with the real scheduler and controllers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from activities.replicas.blockers import read_start
from api.projections import pod_view
from api.views import PodView
from sandbox.control_plane import ControlPlane
from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light.kubelet import container
from sandbox.registry import Registry
from tests.sandbox.light_nodes import ENDLESS, Nodes, condition, env, eventually, training_pod
from workflows.job.replica.policy.verdict import has_ended

Json = dict[str, Any]


async def phase(admin: KubeClient, namespace: str, pod: str, *wanted: str) -> Json:
    """Wait until the pod is in one of the phases, and return it."""
    seen: Json = {}

    async def reached() -> Json | None:
        nonlocal seen
        seen = await admin.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        return seen if seen["status"].get("phase") in wanted else None

    return await eventually(f"pod {pod} {wanted}", reached)


async def create(admin: KubeClient, namespace: str, pod: Json) -> Json:
    return await admin.create(f"/api/v1/namespaces/{namespace}/pods", pod)


async def is_gone(admin: KubeClient, path: str) -> bool:
    try:
        await admin.get(path)
    except ApiError as error:
        return error.status == 404
    return False


async def test_a_jobs_pod_runs_to_complete(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    node = await nodes.start()
    template = training_pod("x", node, container={"env": env(SANDBOX_STEPS=5)})
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    await admin.create(jobs, {"metadata": {"name": "train"}, "spec": {"template": {"spec": template["spec"]}}})

    async def complete() -> bool:
        return bool(condition((await admin.get(f"{jobs}/train"))["status"], "Complete"))

    await eventually("job Complete", complete)
    [pod] = (await admin.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
    [entry] = pod["status"]["containerStatuses"]
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["podIP"].startswith("127.200.")
    assert entry["state"]["terminated"]["exitCode"] == 0
    assert entry["state"]["terminated"]["reason"] == "Completed"
    assert entry["imageID"].startswith("docker.io/pytorch/pytorch@sha256:")


async def test_an_exit_code_fails_the_pod(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    node = await nodes.start()
    pod = training_pod("fails", node, container={"env": env(SANDBOX_FAIL_AT_STEP=2, SANDBOX_EXIT_CODE=7)})
    await create(admin, namespace, pod)
    failed = await phase(admin, namespace, "fails", "Failed", "Succeeded")
    assert failed["status"]["phase"] == "Failed"
    assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


async def test_a_container_that_fails_beside_a_living_one_leaves_the_pod_running(
    admin: KubeClient, namespace: str, nodes: Nodes
) -> None:
    """Its view says which container failed and how; the phase never says so."""
    node = await nodes.start()
    pod = training_pod("beside", node, container={"env": env(SANDBOX_FAIL_AT_STEP=2, SANDBOX_EXIT_CODE=42)})
    board = {"name": "tensorboard", "image": "pytorch/pytorch:2.9", "env": env(SANDBOX_STEPS=ENDLESS)}
    pod["spec"]["containers"].append(board)
    await create(admin, namespace, pod)

    async def failed() -> PodView | None:
        view = pod_view(await admin.get(f"/api/v1/namespaces/{namespace}/pods/beside"))
        return view if view.ends else None

    view = await eventually("the trainer's end", failed)
    assert (view.phase, [(end.name, end.exit_code) for end in view.ends]) == ("Running", [("trainer", 42)])
    assert has_ended(view, None)
    assert has_ended(view, "trainer")
    assert not has_ended(view, "tensorboard")


async def test_init_containers_run_first_one_after_the_other(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane, tmp_path: Path
) -> None:
    node, may_end = await nodes.start(), tmp_path / "may-end"
    pod = training_pod("fetches", node, container={"env": env(SANDBOX_STEPS=2)})
    fetch = {"name": "fetch", "image": "busybox:1.37", "env": env(SANDBOX_STEPS=5, SANDBOX_UNTIL=may_end)}
    side = {"name": "push", "image": "busybox:1.37", "restartPolicy": "Always"}
    pod["spec"]["initContainers"] = [side, {"name": "quick", "image": "busybox:1.37"}, fetch]
    await create(admin, namespace, pod)
    path = f"/api/v1/namespaces/{namespace}/pods/fetches"

    async def fetching() -> Json | None:
        status = (await admin.get(path))["status"]
        return status if "running" in status.get("initContainerStatuses", [{}] * 3)[2].get("state", {}) else None

    status = await eventually("fetch runs", fetching)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert status["initContainerStatuses"][1]["state"]["terminated"]["exitCode"] == 0
    may_end.touch()
    await phase(admin, namespace, "fetches", "Succeeded")
    log = await control_plane.kubectl("logs", "fetches", "-c", "fetch", "-n", namespace)
    assert log.splitlines()[-1].startswith("training done after ")


async def test_an_init_container_that_fails_fails_the_pod(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    node = await nodes.start()
    pod = training_pod("unfetched", node)
    fails = env(SANDBOX_STEPS=9, SANDBOX_FAIL_AT_STEP=1, SANDBOX_EXIT_CODE=6)
    pod["spec"]["initContainers"] = [{"name": "fetch", "image": "busybox:1.37", "env": fails}]
    await create(admin, namespace, pod)
    failed = pod_view(await phase(admin, namespace, "unfetched", "Failed", "Succeeded"))
    assert (failed.phase, failed.started_at) == ("Failed", None)
    assert [(end.name, end.exit_code, end.init) for end in failed.ends] == [("fetch", 6, True)]


async def test_a_pull_takes_time_and_is_told(
    admin: KubeClient, namespace: str, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, seen = await nodes.start(), asyncio.Event()
    write = container.write_event

    async def pulls_until_it_is_seen(context: Any, reason: str, message: str) -> None:
        await write(context, reason, message)
        if reason == "Pulling":
            await seen.wait()

    monkeypatch.setattr(container, "write_event", pulls_until_it_is_seen)
    made = await create(
        admin, namespace, training_pod("large", node, container={"env": env(SANDBOX_PULL_SECONDS=1, SANDBOX_STEPS=2)})
    )
    pod_path, events = (
        f"/api/v1/namespaces/{namespace}/pods/large",
        f"/apis/events.k8s.io/v1/namespaces/{namespace}/events",
    )

    async def busy() -> str:
        pod, told = await admin.get(pod_path), (await admin.get(events))["items"]
        return read_start(None, pod, told).busy

    assert "image pytorch/pytorch:2.9 has been pulled since" in await eventually("the pull", busy)
    seen.set()
    await phase(admin, namespace, "large", "Succeeded")
    told = [
        each["reason"]
        for each in (await admin.get(events))["items"]
        if each["regarding"].get("uid") == made["metadata"]["uid"]
    ]
    assert {"Pulling", "Pulled"} <= set(told)


async def test_on_failure_starts_again_from_step_0(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane
) -> None:
    node = await nodes.start()
    pod = training_pod("again", node, restartPolicy="OnFailure", container={"env": env(SANDBOX_FAIL_AT_STEP=3)})
    await create(admin, namespace, pod)

    async def restarted_twice() -> bool:
        [status] = (await admin.get(f"/api/v1/namespaces/{namespace}/pods/again"))["status"].get(
            "containerStatuses", [{}]
        )
        return status.get("restartCount", 0) >= 2

    await eventually("second restart", restarted_twice)
    log = await control_plane.kubectl("logs", "again", "-n", namespace, "--previous")
    assert log.startswith("training from step 0")


async def run_and_delete(admin: KubeClient, namespace: str, pod: Json) -> tuple[str, int]:
    """Make a pod that a finalizer keeps after its deletion; returns its path and how it ended."""
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    pod["metadata"]["finalizers"] = ["test.example/keep"]
    await create(admin, namespace, pod)
    await phase(admin, namespace, name, "Running")
    await admin.delete(path)
    ended = await phase(admin, namespace, name, "Failed")
    return path, ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]


async def test_deletion_ends_with_sigterm_and_removes_the_pod(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    node = await nodes.start()
    path, code = await run_and_delete(admin, namespace, training_pod("deleted", node))
    assert code == 143

    async def grace_is_over() -> bool:
        return (await admin.get(path))["metadata"]["deletionGracePeriodSeconds"] == 0

    await eventually("the kubelet's own DELETE", grace_is_over)
    await admin.patch(path, {"metadata": {"finalizers": None}})
    await eventually("pod gone", lambda: is_gone(admin, path))


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(
    admin: KubeClient, namespace: str, nodes: Nodes
) -> None:
    node = await nodes.start()
    stubborn = {"env": env(SANDBOX_ON_SIGTERM="ignore")}
    pod = training_pod("stubborn", node, terminationGracePeriodSeconds=1, container=stubborn)
    path, code = await run_and_delete(admin, namespace, pod)
    assert code == 137
    await admin.patch(path, {"metadata": {"finalizers": None}})


async def test_kubectl_logs(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane, tmp_path: Path
) -> None:
    node, may_end = await nodes.start(), tmp_path / "may-end"
    variables = env(SANDBOX_STEPS=6, SANDBOX_UNTIL=may_end)
    await create(admin, namespace, training_pod("logged", node, container={"env": variables}))
    await phase(admin, namespace, "logged", "Running")
    following = asyncio.create_task(control_plane.kubectl("logs", "-f", "logged", "-n", namespace))
    may_end.touch()
    followed = await following
    assert "step=1/6 loss=" in followed
    assert (last := followed.splitlines()[-1]).startswith("training done after ")
    tail = await control_plane.kubectl("logs", "logged", "-n", namespace, "--tail=1", "--timestamps")
    stamp, _, text = tail.strip().partition(" ")
    assert stamp.endswith("Z")
    assert text == last


async def test_a_missing_image_is_pulled_again_and_again(
    admin: KubeClient, namespace: str, nodes: Nodes, registry: Registry
) -> None:
    node = await nodes.start()
    await create(admin, namespace, training_pod("pulls", node, image=f"{registry.address}/no/such:image"))
    said: dict[str, str] = {}

    async def both_reasons() -> bool:
        status = (await admin.get(f"/api/v1/namespaces/{namespace}/pods/pulls"))["status"]
        for entry in status.get("containerStatuses", ()):
            waiting = entry["state"]["waiting"]
            said[waiting["reason"]] = waiting.get("message", "")
        return {"ErrImagePull", "ImagePullBackOff"} <= said.keys()

    await eventually("both reasons", both_reasons, pause=0.02)
    assert f"ErrImagePull: {said['ErrImagePull']}" in said["ImagePullBackOff"], "who looks late still sees why"


async def test_the_downward_volume_says_who_it_is_now(
    admin: KubeClient, namespace: str, nodes: Nodes, control_plane: ControlPlane
) -> None:
    node = await nodes.start()
    items = [{"path": "replica", "fieldRef": {"fieldPath": "metadata.labels['replica']"}}]
    mounts = {"volumeMounts": [{"name": "me", "mountPath": "/etc/outlast"}]}
    volumes = [{"name": "me", "downwardAPI": {"items": items}}]
    pod = training_pod("who", node, volumes=volumes, container=mounts)
    pod["metadata"]["labels"] = {"replica": "a"}
    await create(admin, namespace, pod)

    async def log_has(text: str) -> bool:
        return text in await control_plane.kubectl("logs", "who", "-n", namespace)

    await phase(admin, namespace, "who", "Running")
    await eventually("first identity", lambda: log_has("identity replica=a"))
    await admin.patch(f"/api/v1/namespaces/{namespace}/pods/who", {"metadata": {"labels": {"replica": "b"}}})
    await eventually("changed identity", lambda: log_has("identity replica=b"))


async def test_a_pod_waits_for_its_config_map(admin: KubeClient, namespace: str, nodes: Nodes) -> None:
    node = await nodes.start()
    volumes = [{"name": "script", "configMap": {"name": "script"}}]
    await create(admin, namespace, training_pod("waits", node, volumes=volumes))

    async def creating() -> bool:
        status = (await admin.get(f"/api/v1/namespaces/{namespace}/pods/waits"))["status"]
        return bool(status.get("containerStatuses"))

    await eventually("container status", creating)
    assert (await phase(admin, namespace, "waits", "Pending", "Running"))["status"]["phase"] == "Pending"
    config = {"metadata": {"name": "script"}, "data": {"train.py": "print('hello')"}}
    await admin.create(f"/api/v1/namespaces/{namespace}/configmaps", config)
    await phase(admin, namespace, "waits", "Running")
