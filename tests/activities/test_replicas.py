"""Replicas on a real control plane: real Jobs, the real scheduler, pods that run on light nodes."""

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.documents.activities import SpecActivities
from activities.kubernetes import ownership
from activities.replicas.activities import ReplicaActivities
from activities.replicas.pods import pods_of
from activities.signatures import ReadProgress, StopReplica
from api import errors, names
from api.common import SecretReference
from api.timings import Timings
from api.views import ReplicaView, RestorePoint
from clients.kube import Kube
from tests.activities.world import World, eventually, run, training
from tests.sandbox.light_nodes import Nodes


@pytest.fixture
def replicas(kube: Kube, namespace: str) -> ReplicaActivities:
    return ReplicaActivities(kube, namespace)


async def test_created_twice_is_one_job(world: World, replicas: ReplicaActivities) -> None:
    first = await run(replicas.create_replica, world.create_replica())
    second = await run(replicas.create_replica, world.create_replica())
    assert (first.job_name, first.job_uid) == ("resnet-0a1b2c3d-r0-i1", second.job_uid)


async def test_none_is_created_beside_a_later_incarnation(world: World, replicas: ReplicaActivities) -> None:
    await run(replicas.create_replica, world.create_replica(incarnation=3))
    with pytest.raises(ApplicationError) as caught:
        await run(replicas.create_replica, world.create_replica(incarnation=2))
    assert (caught.value.type, caught.value.details) == (errors.SUPERSEDED, (3,))
    assert not (await run(replicas.observe_replica, world.replica(incarnation=2))).job_exists


async def test_a_job_that_a_person_labelled_as_ours_is_in_nobodys_way(
    world: World, replicas: ReplicaActivities
) -> None:
    labels = {names.LABEL_JOB: world.job.job_id, names.LABEL_REPLICA: "0"}
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    other = {"metadata": {"name": "by-hand", "labels": labels}, "spec": {"template": {"spec": pod}}}
    await world.kube.create(world.path("batch/v1", "jobs"), other)
    assert (await run(replicas.create_replica, world.create_replica())).job_exists


async def test_root_on_another_node_puts_no_pod_in_a_replicas_place(
    world: World, replicas: ReplicaActivities, control_plane: Any
) -> None:
    """Its kubelet may make mirror pods, and NodeRestriction checks neither their namespace nor their labels."""
    labels = ownership.labels(world.job.job_id, 0, 1)
    forged = await mirror_pod(control_plane, world, labels)
    assert await world.kube.find(world.path("v1", "pods", forged)) is not None
    await run(replicas.create_replica, world.create_replica())
    view = await run(replicas.observe_replica, world.replica())
    assert view.pod is None or view.pod.name != forged
    assert all(pod["metadata"]["name"] != forged for pod in await pods_of(world.kube, world.replica()))
    stock = await run(SpecActivities(world.kube, Timings()).take_stock, world.job)
    assert stock.replicas == [(0, 1)]
    await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True, force=True))
    assert (await run(SpecActivities(world.kube, Timings()).take_stock, world.job)).replicas == []


async def mirror_pod(control_plane: Any, world: World, labels: dict[str, str]) -> str:
    """Let the kubelet of another job's Node make a pod in the world's namespace, and return its name."""
    node = names.vm_name(names.vm_key("ffffffff", 0, 1), int(time.time()))
    made = await world.kube.create("/api/v1/nodes", {"metadata": {"name": node}})
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": made["metadata"]["uid"], "controller": True}
    metadata = {
        "name": "forged",
        "labels": labels,
        "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner],
    }
    spec = {"nodeName": node, "containers": [{"name": "trainer", "image": "i"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    as_node = (f"--as=system:node:{node}", "--as-group=system:nodes", "--as-group=system:authenticated")
    where = ("create", "-n", world.job.namespace, "-f", "-")
    await control_plane.kubectl(*where, *as_node, stdin=json.dumps(pod))
    return "forged"


async def test_job_of_somebody_else_is_a_conflict(world: World, replicas: ReplicaActivities) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    other = {"metadata": {"name": "resnet-0a1b2c3d-r0-i1"}, "spec": {"template": {"spec": pod}}}
    await world.kube.create(world.path("batch/v1", "jobs"), other)
    with pytest.raises(ApplicationError) as caught:
        await run(replicas.create_replica, world.create_replica())
    assert caught.value.type == errors.CONFLICT


async def test_pull_secret_is_derived_and_owned_by_the_job(world: World, replicas: ReplicaActivities) -> None:
    await world.secret("registry", username="_json_key", password="s3cret:with colon")
    request = world.create_replica(
        image_pull=SecretReference(name="registry"), checkpoint_image_repo="docker.io/u/repo"
    )
    await run(replicas.create_replica, request)
    await run(replicas.create_replica, request)
    secret = await world.kube.get(world.path("v1", "secrets", "resnet-0a1b2c3d-pull"))
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    assert list(config["auths"]) == ["https://index.docker.io/v1/"]
    login = base64.b64decode(config["auths"]["https://index.docker.io/v1/"]["auth"]).decode()
    assert login == "_json_key:s3cret:with colon"
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [world.job.uid]


async def test_replica_of_an_image_on_record_is_created_while_the_registry_is_down(
    world: World, replicas: ReplicaActivities
) -> None:
    await world.secret("registry", username="u", password="p")
    nowhere = "127.0.0.1:9/p/repo"
    image = f"{nowhere}:0a1b2c3d-p000000000007-1700000100"
    request = world.create_replica(
        image_pull=SecretReference(name="registry"),
        checkpoint_image_repo=nowhere,
        restore=RestorePoint(images={"trainer": image}, progress=7, created_at=datetime.now(UTC)),
    )
    view = await run(replicas.create_replica, request)
    pod = (await world.kube.get(world.path("batch/v1", "jobs", view.job_name)))["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == image


async def test_credentials_that_are_not_there_are_missing(world: World, replicas: ReplicaActivities) -> None:
    with pytest.raises(ApplicationError, match="nobody/registry does not exist") as caught:
        await run(
            replicas.create_replica,
            world.create_replica(image_pull=SecretReference(name="registry", namespace="nobody")),
        )
    assert caught.value.type == errors.MISSING


async def test_nothing_created_is_nothing_seen(world: World, replicas: ReplicaActivities) -> None:
    view = await run(replicas.observe_replica, world.replica())
    assert (view.job_exists, view.pod) == (False, None)


async def test_pod_without_its_node_says_that_it_is_unschedulable(world: World, replicas: ReplicaActivities) -> None:
    await run(replicas.create_replica, world.create_replica("nowhere"))

    async def waits() -> bool:
        view = await run(replicas.observe_replica, world.replica())
        return view.pod is not None and view.pod.waiting_reason == "Unschedulable"

    await eventually("pod Unschedulable", waits)


async def test_training_runs_to_its_end(world: World, replicas: ReplicaActivities, nodes: Nodes) -> None:
    node = await nodes.start()
    await run(replicas.create_replica, world.create_replica(node, job_template=training(steps=3)))

    async def succeeded() -> ReplicaView | None:
        view = await run(replicas.observe_replica, world.replica())
        return view if view.pod is not None and view.pod.phase == "Succeeded" else None

    pod = (await eventually("pod Succeeded", succeeded)).pod
    assert pod is not None
    assert (pod.node, pod.exit_code, pod.disrupted) == (node, 0, False)
    assert pod.finished_at is not None


async def test_stopped_pod_leaves_its_job_and_no_second_pod(
    world: World, replicas: ReplicaActivities, nodes: Nodes
) -> None:
    await run(replicas.create_replica, world.create_replica(await nodes.start()))
    await world.running(replicas.observe_replica, world.replica())
    stop = StopReplica(ref=world.replica(), delete_job=False)
    await run(replicas.stop_replica, stop)

    async def failed() -> ReplicaView | None:
        view = await run(replicas.stop_replica, stop)
        return view if view.job_failed is not None else None

    view = await eventually("job Failed", failed)
    assert (view.job_exists, view.job_failed) == (True, "BackoffLimitExceeded")
    pods = await world.kube.list(world.path("v1", "pods"))
    assert [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")] == []


async def test_deleted_job_stays_until_its_pod_is_gone(world: World, replicas: ReplicaActivities, nodes: Nodes) -> None:
    await run(replicas.create_replica, world.create_replica(await nodes.start()))
    await world.running(replicas.observe_replica, world.replica())
    view = await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True))
    assert view.job_exists
    seen: list[tuple[bool, bool]] = []

    async def gone() -> bool:
        view = await run(replicas.observe_replica, world.replica())
        seen.append((view.job_exists, view.pod is not None))
        return not view.job_exists

    await eventually("job gone", gone)
    assert (False, True) not in seen


async def test_pod_on_a_dead_machine_goes_by_force(world: World, replicas: ReplicaActivities, nodes: Nodes) -> None:
    node = await nodes.start()
    await run(replicas.create_replica, world.create_replica(node))
    await world.running(replicas.observe_replica, world.replica())
    await nodes.kubelets[node].kill()
    await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True))

    async def gone() -> bool:
        view = await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True, force=True))
        return not view.job_exists and view.pod is None

    await eventually("job and pod gone", gone)


async def test_nothing_to_stop_is_success(world: World, replicas: ReplicaActivities) -> None:
    view = await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True, force=True))
    assert not view.job_exists


async def test_progress_is_the_last_that_the_log_reports(
    world: World, replicas: ReplicaActivities, nodes: Nodes
) -> None:
    await run(replicas.create_replica, world.create_replica(await nodes.start()))
    await world.running(replicas.observe_replica, world.replica())
    request = ReadProgress(ref=world.replica(), log_pattern=r"step=(\d+)/")

    async def reads(more_than: float) -> float | None:
        progress = (await run(replicas.read_progress, request)).progress
        return progress if progress is not None and progress > more_than else None

    first = await eventually("progress", lambda: reads(0))
    assert await eventually("more progress", lambda: reads(first)) > first


async def test_no_pod_has_no_progress(world: World, replicas: ReplicaActivities) -> None:
    reading = await run(replicas.read_progress, ReadProgress(ref=world.replica(), log_pattern=r"step=(\d+)"))
    assert reading.progress is None
    assert not reading.readable


async def test_pattern_without_a_group_is_invalid(world: World, replicas: ReplicaActivities) -> None:
    with pytest.raises(ApplicationError, match="0 groups") as caught:
        await run(replicas.read_progress, ReadProgress(ref=world.replica(), log_pattern="step"))
    assert caught.value.type == errors.INVALID
