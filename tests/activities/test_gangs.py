"""Gangs on a real control plane: one Indexed Job, pods on nodes of their own, and views by member."""

import asyncio
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.documents.activities import SpecActivities
from activities.replicas.activities import ReplicaActivities
from activities.replicas.logs import LogActivities
from activities.signatures import (
    CreateReplica,
    JobDocument,
    LookAtReplicas,
    ReadProgress,
    ReplicaRef,
    SaveLogs,
    StopReplica,
)
from activities.storage.bucket import SecretBuckets
from api import errors
from api.spot_instance_job import CheckpointStorage
from api.timings import Timings
from api.views import ReplicaView
from clients.kube import Kube
from sandbox.object_store import ObjectStore
from tests.activities.world import LENT, World, eventually, loopback_gate, run, training
from tests.sandbox.light_nodes import Nodes

Json = dict[str, Any]

FIRST = "resnet-0a1b2c3d-r0-i1"
SERVICE = "resnet-0a1b2c3d-r0"


@pytest.fixture
def replicas(kube: Kube, namespace: str) -> ReplicaActivities:
    return ReplicaActivities(kube, namespace)


async def start(nodes: Nodes, count: int) -> list[str]:
    return list(await asyncio.gather(*(nodes.start() for _ in range(count))))


async def made(world: World, count: int) -> list[Json]:
    """Wait until the controller has made all pods, and return them."""

    async def pods() -> list[Json] | None:
        found = await world.kube.list(world.path("v1", "pods"))
        return found if len(found) == count else None

    return await eventually(f"{count} pods", pods)


async def bound(world: World, count: int) -> list[Json]:
    """Bind all pods to a node that nobody runs, and return them."""
    pods = await made(world, count)
    for pod in pods:
        binding = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"kind": "Node", "name": "nowhere"}}
        await world.kube.create(f"{world.path('v1', 'pods', pod['metadata']['name'])}/binding", binding)
    return pods


async def all_run(replicas: ReplicaActivities, ref: ReplicaRef, members: int) -> ReplicaView:
    async def view() -> ReplicaView | None:
        seen = await run(replicas.observe_replica, ref)
        running = [pod for pod in seen.pods.values() if pod.phase == "Running" and pod.started_at]
        return seen if len(running) == members else None

    return await eventually(f"{members} members run", view)


def gang(world: World, *nodes: str, members: int = 2, **more: Any) -> CreateReplica:
    return world.create_replica(*nodes, members=members, indexed=True, **more)


async def test_each_member_is_on_a_node_of_its_own_and_has_an_index(
    world: World, replicas: ReplicaActivities, nodes: Nodes
) -> None:
    names = await start(nodes, 3)
    await run(replicas.create_replica, gang(world, *names, members=3))
    view = await all_run(replicas, world.replica(), 3)
    assert sorted(view.pods) == [0, 1, 2]
    assert {pod.node for pod in view.pods.values()} == set(names)
    for pod in await made(world, 3):
        member = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        seen = view.pods[int(member)]
        assert (pod["metadata"]["uid"], pod["metadata"]["name"]) == (seen.uid, seen.name)
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (f"{FIRST}-{member}", SERVICE)


async def test_all_members_wait_where_nodes_for_some_are_missing(
    world: World, replicas: ReplicaActivities, nodes: Nodes
) -> None:
    await run(replicas.create_replica, gang(world, await nodes.start(gpus=2)))

    async def one_waits() -> bool:
        view = await run(replicas.observe_replica, world.replica())
        return "Unschedulable" in {pod.waiting_reason for pod in view.pods.values()} and len(view.pods) == 2

    await eventually("a member waits", one_waits)
    reading = await run(replicas.read_start, world.replica())
    assert reading.reason == "Unschedulable", "whichever member waits, it is the one that is told of"


async def test_the_service_publishes_each_member_by_its_name_before_it_is_ready(
    world: World, replicas: ReplicaActivities
) -> None:
    await run(replicas.create_replica, gang(world))
    for number, pod in enumerate(await bound(world, 2)):  # light nodes have loopback addresses, which are not published
        address = f"10.1.0.{number}"
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        await world.kube.patch(f"{world.path('v1', 'pods', pod['metadata']['name'])}/status", {"status": status})

    async def published() -> set[str] | None:
        slices = await world.kube.list(world.path("discovery.k8s.io/v1", "endpointslices"))
        names = {each.get("hostname", "") for found in slices for each in found["endpoints"] or []}
        return names if len(names) == 2 else None

    assert await eventually("names", published) == {f"{FIRST}-0", f"{FIRST}-1"}
    await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True, force=True))


async def test_created_twice_is_one_job_and_one_service(world: World, replicas: ReplicaActivities) -> None:
    first = await run(replicas.create_replica, gang(world))
    second = await run(replicas.create_replica, gang(world))
    assert first.job_uid == second.job_uid
    await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True, force=True))
    await run(replicas.create_replica, gang(world, incarnation=2))
    (service,) = await world.kube.list(world.path("v1", "services"))
    assert service["metadata"]["name"] == SERVICE
    assert [owner["uid"] for owner in service["metadata"]["ownerReferences"]] == [world.job.uid]


async def test_a_service_of_somebody_else_is_a_conflict(world: World, replicas: ReplicaActivities) -> None:
    other = {"metadata": {"name": SERVICE}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}}
    await world.kube.create(world.path("v1", "services"), other)
    with pytest.raises(ApplicationError, match=f"Service .*/{SERVICE} exists and belongs to somebody else") as caught:
        await run(replicas.create_replica, gang(world))
    assert caught.value.type == errors.CONFLICT
    assert not (await run(replicas.observe_replica, world.replica())).job_exists


async def test_the_end_of_one_member_ends_no_other_and_makes_none_anew(
    world: World, replicas: ReplicaActivities
) -> None:
    """Which end counts is the workflow's to say, so the Job's controller may decide nothing."""
    await run(replicas.create_replica, gang(world, members=3))
    await bound(world, 3)
    view = await run(replicas.observe_replica, world.replica())

    async def ends(member: int, phase: str) -> None:
        where = world.path("v1", "pods", view.pods[member].name)
        await world.kube.patch(f"{where}/status", {"status": {"phase": phase}})

    await ends(1, "Failed")
    await world.kube.delete(world.path("v1", "pods", view.pods[1].name))

    async def gone() -> bool:
        return 1 not in (await run(replicas.observe_replica, world.replica())).pods

    await eventually("its pod is gone", gone)
    await asyncio.sleep(3)  # in which a controller with another limit makes it anew, or deletes the others
    seen = await run(replicas.observe_replica, world.replica())
    assert {member: pod.uid for member, pod in seen.pods.items()} == {
        member: view.pods[member].uid for member in (0, 2)
    }
    assert not any(pod.deleting for pod in seen.pods.values())
    assert seen.job_failed is None
    for member in (0, 2):
        await ends(member, "Succeeded")

    async def decided() -> str | None:
        return (await run(replicas.observe_replica, world.replica())).job_failed

    assert await eventually("the Job ends", decided) == "FailedIndexes"


async def test_members_that_waited_for_a_node_are_stopped_for_good(world: World, replicas: ReplicaActivities) -> None:
    await run(replicas.create_replica, gang(world))
    await made(world, 2)
    stop = StopReplica(ref=world.replica(), delete_job=False)

    async def failed() -> ReplicaView | None:
        seen = await run(replicas.stop_replica, stop)
        return seen if seen.job_failed else None

    assert (await eventually("job Failed", failed)).pods == {}


async def test_all_members_are_stopped_at_once_and_the_job_stays(
    world: World, replicas: ReplicaActivities, nodes: Nodes
) -> None:
    await run(replicas.create_replica, gang(world, *await start(nodes, 2)))
    await all_run(replicas, world.replica(), 2)
    stop = StopReplica(ref=world.replica(), delete_job=False)
    view = await run(replicas.stop_replica, stop)
    assert all(pod.deleting for pod in view.pods.values())

    async def failed() -> ReplicaView | None:
        seen = await run(replicas.stop_replica, stop)
        return seen if seen.job_failed else None

    assert (await eventually("job Failed", failed)).job_exists
    pods = await world.kube.list(world.path("v1", "pods"))
    assert [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")] == []


async def test_a_shorter_grace_is_given_to_pods_that_stop_already_and_never_a_longer_one(
    world: World, replicas: ReplicaActivities
) -> None:
    """A gang that has lost a member saves nothing any more, and its pods ignore SIGTERM."""
    template = training()
    template["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 60
    await run(replicas.create_replica, gang(world, job_template=template))
    await bound(world, 2)  # a pod without a node is deleted at once

    async def graces() -> list[int]:
        found = await world.kube.list(world.path("v1", "pods"))
        return [pod["metadata"]["deletionGracePeriodSeconds"] for pod in found]

    for asked, given in ((None, 60), (10, 10), (30, 10), (None, 10)):
        await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=False, grace=asked))
        assert await graces() == [given, given]
    await run(replicas.stop_replica, StopReplica(ref=world.replica(), delete_job=True, force=True))


async def test_progress_is_the_first_members(world: World, replicas: ReplicaActivities, nodes: Nodes) -> None:
    await run(replicas.create_replica, gang(world, *await start(nodes, 2)))
    await all_run(replicas, world.replica(), 2)

    async def reads() -> float | None:
        request = ReadProgress(ref=world.replica(), log_pattern=r"step=(\d+)/")
        return (await run(replicas.read_progress, request)).progress

    assert await eventually("progress", reads) > 0


async def test_the_progress_of_all_members_is_read_at_once(
    world: World, replicas: ReplicaActivities, nodes: Nodes
) -> None:
    await run(replicas.create_replica, gang(world, *await start(nodes, 3), members=3))
    await all_run(replicas, world.replica(), 3)
    job = world.create_replica().job

    async def reads() -> dict[int, float] | None:
        look = LookAtReplicas(job=job, replicas=[(0, 1)], log_pattern=r"step=(\d+)/")
        [reading] = (await run(replicas.look_at_replicas, look)).readings
        return reading.members if len(reading.members) == 3 and min(reading.members.values()) > 0 else None

    assert list(await eventually("the progress of all members", reads)) == [0, 1, 2]


@pytest.mark.parametrize("bucket", [True, False], ids=["in a bucket", "in a ConfigMap"])
async def test_the_first_members_log_is_saved_and_the_ends_of_the_others(
    world: World, replicas: ReplicaActivities, nodes: Nodes, kube: Kube, store: ObjectStore, bucket: bool
) -> None:
    await run(replicas.create_replica, gang(world, *await start(nodes, 2), job_template=training(steps=3)))

    async def ended() -> bool:
        view = await run(replicas.observe_replica, world.replica())
        return [pod.exit_code for pod in view.pods.values()] == [0, 0]

    await eventually("both have ended", ended)
    place = CheckpointStorage(type="gcs", bucket="checkpoints", endpoint=store.url) if bucket else None
    logs = LogActivities(kube, SecretBuckets(kube, loopback_gate()))
    saved = await run(logs.save_logs, SaveLogs(ref=world.replica(), storage=place))
    assert saved.problem == ""
    if not bucket:
        found = await world.kube.get(world.path("v1", "configmaps", "resnet-0a1b2c3d-r0-log"))
        _, other, first = found["data"]["log"].partition("--- member 1 ---\n")[0:3]
        assert other
        assert [text.count("step=3/3") for text in first.split("--- member 0 ---\n")] == [1, 1]
        return
    objects = {key: found.body.decode() for key, found in store.buckets["checkpoints"].items()}
    assert sorted(objects) == ["0a1b2c3d/logs/r0/i00001-m1.log", "0a1b2c3d/logs/r0/i00001.log"]
    assert all("step=3/3" in text for text in objects.values())
    assert "member 1: the end of its log" in objects["0a1b2c3d/logs/r0/i00001-m1.log"]


# --- a job's acceptance


async def loaded(world: World, **spec: Any) -> JobDocument:
    """Make the job's replica a gang of two, with what else its spec says, and read it as its workflow does."""
    config = {"mode": "Application", "checkpointStorage": {"type": "gcs", "bucket": "b"}, "checkpointImageRepo": None}
    gang = {"minSize": 2, "maxSize": 2}
    change = {"replicas": 1, "gang": gang, "checkpointConfig": config, **spec}
    await world.kube.patch(world.job_path, {"spec": change})
    return await run(SpecActivities(world.kube, Timings(), grants=LENT).load_job, world.job)


async def test_a_gang_is_accepted(world: World) -> None:
    document = await loaded(world)
    assert (document.problems, document.warnings) == ([], [])
    assert document.spec is not None
    assert (document.spec.members, document.spec.is_gang) == (2, True)


async def test_a_gang_by_parallelism_is_accepted(world: World) -> None:
    template = training()
    template["spec"] |= {"parallelism": 3, "completions": 3, "completionMode": "Indexed"}
    document = await loaded(world, gang=None, jobTemplate=template)
    assert (document.problems, document.warnings) == ([], [])
    assert document.spec is not None
    assert document.spec.members == 3


async def test_a_gang_for_which_a_quota_has_no_room_is_not_accepted(world: World) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    await world.kube.create(world.path("v1", "resourcequotas"), quota)

    async def counted() -> bool:
        found = await world.kube.get(world.path("v1", "resourcequotas", "few"))
        return bool(found.get("status", {}).get("used"))

    await eventually("the quota is counted", counted)
    [problem] = (await loaded(world)).problems
    assert problem.reason == "PodRefused"
    assert "the pods of all 2 members: exceeded quota: few, requested: pods=2" in problem.message


async def test_a_claim_for_one_node_keeps_a_gang_from_running(world: World) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await world.kube.create(world.path("v1", "persistentvolumeclaims"), {"metadata": {"name": "data"}, "spec": claim})
    template = training()
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    template["spec"]["template"]["spec"]["volumes"] = [volume]
    [problem] = (await loaded(world, jobTemplate=template)).problems
    assert problem.reason == "VolumeNotShareable"
    assert "the 2 pods that train together are on different nodes: use a claim that is ReadWriteMany" in problem.message
