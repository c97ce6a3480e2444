"""Checkpoints with the sandbox's operator, which plays the traps of the real one, and a real registry."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.checkpoints.activities import OPERATOR_FINALIZER, CheckpointActivities
from activities.registry.activities import ImageActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import CREATE_CHECKPOINT, CheckpointRef, CreateCheckpoint, FindImage
from api import errors, names
from api.spot_instance_job import CheckpointConfig
from api.views import CheckpointView, RestorePoint
from clients.kube import Kube, path
from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.registry import Registry
from tests.activities.world import World, eventually, loopback_gate, run
from tests.sandbox.light_nodes import SPEED, Nodes
from worker.memory import Memory

STEP = r"step=(\d+)/"


@pytest.fixture
def checkpoints(kube: Kube) -> CheckpointActivities:
    memory = Memory(kube)
    return CheckpointActivities(kube, memory.running, memory.hosts, memory.under_way)


@pytest.fixture
def replicas(kube: Kube, namespace: str) -> ReplicaActivities:
    return ReplicaActivities(kube, namespace)


@pytest.fixture
async def operator(control_plane: Any, crds: None) -> AsyncIterator[CheckpointOperator]:
    running = CheckpointOperator(control_plane.kubeconfig, SPEED, crd=None)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def config(world: World, registry: Registry) -> CheckpointConfig:
    return CheckpointConfig.model_validate(
        {
            "checkpointImageRepo": f"{registry.address}/{world.job.namespace}",
            "checkpointRepoCredentialRef": {"name": "registry"},
            "progress": {"logPattern": STEP},
        }
    )


@pytest.fixture
async def training(world: World, replicas: ReplicaActivities, nodes: Nodes) -> str:
    """Start a replica that has trained a little, and return its node."""
    await world.secret("registry", username="u", password="p")
    node = await nodes.start()
    await run(replicas.create_replica, world.create_replica(node))
    await world.running(replicas.observe_replica, world.replica())
    return node


def asked(world: World, config: CheckpointConfig, **more: Any) -> CreateCheckpoint:
    request: dict[str, Any] = {"number": 1, "replica": 0, "incarnation": 1, "lineage_seconds": 77.5, "unix": 1_700_000}
    return CreateCheckpoint(job=world.job, config=config, **request | more)


async def completed(checkpoints: CheckpointActivities, world: World, number: int = 1) -> CheckpointView:
    async def ended() -> CheckpointView | None:
        view = await run(checkpoints.observe_checkpoint, CheckpointRef(job=world.job, number=number))
        return view if view.ended else None

    return await eventually("checkpoint ended", ended)


async def progressed(world: World, checkpoints: CheckpointActivities, config: CheckpointConfig) -> CheckpointView:
    """Ask until the training has reported its progress: each call has a number of its own."""
    number = 0

    async def reported() -> CheckpointView | None:
        nonlocal number
        number += 1
        try:
            # Those that it has not reported it for yet must have less progress, or the registry has a further one.
            view = await run(checkpoints.create_checkpoint, asked(world, config, number=number, lineage_seconds=0))
        except ApplicationError as error:
            if error.type != errors.BUSY:
                raise
            return None
        return view if view.reported else None

    return await eventually("reported progress", reported)


async def test_checkpoint_is_pushed_and_found_and_restored_from(
    world: World,
    checkpoints: CheckpointActivities,
    replicas: ReplicaActivities,
    operator: CheckpointOperator,
    config: CheckpointConfig,
    training: str,
    nodes: Nodes,
    registry: Registry,
) -> None:
    asked_for = await progressed(world, checkpoints, config)
    number = int(asked_for.name.rpartition("-c")[2])
    view = await completed(checkpoints, world, number)
    repository = f"{registry.address}/{world.job.namespace}"
    assert view.usable(["trainer"])
    assert view.images == {"trainer": f"{repository}:{view.tag}"}
    assert view.tag == f"0a1b2c3d-p{int(asked_for.progress or 0):012d}-1700000"

    images = ImageActivities(world.kube, loopback_gate())
    find = FindImage(job=world.job, config=config, containers=["trainer"], which="Ours")
    point = (await run(images.find_image, find)).point
    assert isinstance(point, RestorePoint)
    assert re.fullmatch(re.escape(f"{repository}:{view.tag}@sha256:") + "[0-9a-f]{64}", point.images["trainer"])
    assert point.progress == int(asked_for.progress or 0)

    second = await nodes.start()
    await run(replicas.create_replica, world.create_replica(second, incarnation=2, restore=point))
    restored = await world.running(replicas.observe_replica, world.replica(incarnation=2))
    log = f"/api/v1/namespaces/{world.job.namespace}/pods/{restored.pod.name}/log" if restored.pod else ""

    async def begun() -> int | None:
        said = b"".join([piece async for piece in world.kube.stream(log, lasts=8)])
        found = re.search(rb"training from step (\d+)", said)
        return int(found[1]) if found else None

    assert await eventually("the restored training", begun) >= point.progress


async def test_asked_for_as_the_operator_needs_it(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    view = await run(checkpoints.create_checkpoint, asked(world, config.model_copy(update={"progress": None})))
    found = await world.kube.get(world.path("migration.dcnlab.com/v1", "checkpointbackups", view.name))
    spec, namespace = found["spec"], world.job.namespace
    assert spec["podRef"]["namespace"] == namespace
    assert spec["resourceRef"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "resnet-0a1b2c3d-r0-i1",
        "namespace": namespace,
    }
    assert (spec["schedule"], spec["stopPod"]) == ("immediately", False)
    assert spec["registry"]["secretRef"] == {"name": "registry", "namespace": namespace}
    assert spec["containers"] == [{"name": "trainer", "image": f"{namespace}:0a1b2c3d-p000000000077-1700000"}]
    assert found["metadata"]["ownerReferences"][0]["uid"] == world.job.uid


async def test_seconds_of_the_lineage_stand_in_for_progress_that_is_not_reported(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    never = config.model_copy(update={"progress": config.progress.model_copy(update={"log_pattern": "never=(.)"})})  # type: ignore[union-attr]
    view = await run(checkpoints.create_checkpoint, asked(world, never))
    assert (view.progress, view.reported) == (77.5, False)


async def test_asked_twice_is_asked_once(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    first = await run(checkpoints.create_checkpoint, asked(world, config))
    second = await run(checkpoints.create_checkpoint, asked(world, config))
    assert (second.uid, second.tag) == (first.uid, first.tag)


async def test_one_that_an_earlier_run_asked_for_is_not_taken_for_this_request(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    first = await run(checkpoints.create_checkpoint, asked(world, config))
    where = world.path("migration.dcnlab.com/v1", "checkpointbackups", first.name)
    # It ended long ago.
    await world.kube.patch(f"{where}/status", {"status": {"phase": "Completed"}})
    with pytest.raises(ConnectionError, match="earlier run"):
        await run(checkpoints.create_checkpoint, asked(world, config, unix=1_800_000))
    second = await run(checkpoints.create_checkpoint, asked(world, config, unix=1_800_000))
    assert (second.uid != first.uid, second.phase) == (True, None)


async def test_one_at_a_time_on_a_node(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    first = await run(checkpoints.create_checkpoint, asked(world, config))
    with pytest.raises(ApplicationError, match=f"{first.name} is under way on node {training}") as caught:
        await run(checkpoints.create_checkpoint, asked(world, config, number=2, unix=1_800_000))
    assert caught.value.type == errors.BUSY
    where = world.path("migration.dcnlab.com/v1", "checkpointbackups", first.name)
    await world.kube.patch(f"{where}/status", {"status": {"phase": "Failed"}})
    assert (await run(checkpoints.create_checkpoint, asked(world, config, number=2, unix=1_800_000))).exists


async def test_no_other_team_keeps_a_node_from_checkpoints(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    """Somebody makes a CheckpointBackup in a namespace of his own, which says that its pod is on that node."""
    other = f"{world.job.namespace}-other"
    await world.kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    forged = {
        "apiVersion": "migration.dcnlab.com/v1",
        "kind": "CheckpointBackup",
        "metadata": {
            "name": "forged",
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "annotations": {names.ANNOTATION_NODE: training},
        },
        "spec": {
            "schedule": "immediately",
            "podRef": {"name": "p", "namespace": other},
            "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "j"},
        },
    }
    await world.kube.create(path("migration.dcnlab.com/v1", "checkpointbackups", other), forged)
    assert (await run(checkpoints.create_checkpoint, asked(world, config))).exists


async def test_one_that_hangs_for_longer_than_any_takes_does_not_hold_the_node(
    world: World,
    checkpoints: CheckpointActivities,
    config: CheckpointConfig,
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await run(checkpoints.create_checkpoint, asked(world, config))
    monkeypatch.setattr("activities.checkpoints.memory.WORK", timedelta(0))
    assert (await run(checkpoints.create_checkpoint, asked(world, config, number=2, unix=1_800_000))).exists


async def test_node_that_is_not_ready_is_not_asked(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str, nodes: Nodes
) -> None:
    await nodes.kubelets[training].kill()
    conditions = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]
    await world.kube.patch(f"/api/v1/nodes/{training}/status", {"status": {"conditions": conditions}})
    with pytest.raises(ApplicationError, match=f"node {training} is not Ready") as caught:
        await run(checkpoints.create_checkpoint, asked(world, config))
    assert caught.value.type == errors.MISSING


async def test_asked_before_the_pod_ended_is_found_after(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str
) -> None:
    first = await run(checkpoints.create_checkpoint, asked(world, config))
    await world.kube.delete(world.path("batch/v1", "jobs", "resnet-0a1b2c3d-r0-i1"), propagation="Background")
    second = await run(checkpoints.create_checkpoint, asked(world, config))
    assert second.uid == first.uid


async def test_replica_without_a_running_pod_cannot_be_asked(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig
) -> None:
    with pytest.raises(ApplicationError, match="no running pod") as caught:
        await run(checkpoints.create_checkpoint, asked(world, config))
    assert caught.value.type == errors.MISSING


async def test_node_that_hangs_delays_the_request_by_a_second(
    world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, training: str, nodes: Nodes
) -> None:
    node = await world.kube.get(f"/api/v1/nodes/{training}")
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    await nodes.kubelets[training].kill()

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(says_nothing, address, 10250):
        started = time.monotonic()
        view = await run(checkpoints.create_checkpoint, asked(world, config))
        assert 1 <= time.monotonic() - started < CREATE_CHECKPOINT.timeout
    assert (view.reported, view.progress) == (False, 77.5)


async def test_deleted_with_the_operator_there_is_gone(
    world: World,
    checkpoints: CheckpointActivities,
    operator: CheckpointOperator,
    config: CheckpointConfig,
    training: str,
) -> None:
    await run(checkpoints.create_checkpoint, asked(world, config))
    await completed(checkpoints, world)

    async def gone() -> bool:
        return not (await run(checkpoints.delete_checkpoint, CheckpointRef(job=world.job, number=1))).exists

    await eventually("checkpoint gone", gone)


async def held(world: World, checkpoints: CheckpointActivities, config: CheckpointConfig, *finalizers: str) -> str:
    """Return the path of a new checkpoint with these finalizers."""
    view = await run(checkpoints.create_checkpoint, asked(world, config))
    where = world.path("migration.dcnlab.com/v1", "checkpointbackups", view.name)
    await world.kube.patch(where, {"metadata": {"finalizers": list(finalizers)}})
    return where


async def test_finalizer_of_an_operator_that_is_gone_comes_off_after_its_time(
    world: World,
    checkpoints: CheckpointActivities,
    config: CheckpointConfig,
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await held(world, checkpoints, config, OPERATOR_FINALIZER)
    ref = CheckpointRef(job=world.job, number=1)
    assert (await run(checkpoints.delete_checkpoint, ref)).exists
    assert (await run(checkpoints.delete_checkpoint, ref)).exists
    monkeypatch.setattr("activities.checkpoints.activities.FINALIZER_SECONDS", -1)
    assert not (await run(checkpoints.delete_checkpoint, ref)).exists


async def test_finalizer_of_somebody_else_stays(
    world: World,
    checkpoints: CheckpointActivities,
    config: CheckpointConfig,
    training: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = await held(world, checkpoints, config, OPERATOR_FINALIZER, "example.com/audit")
    monkeypatch.setattr("activities.checkpoints.activities.FINALIZER_SECONDS", -1)
    ref = CheckpointRef(job=world.job, number=1)
    for _ in range(2):
        await run(checkpoints.delete_checkpoint, ref)
    assert (await world.kube.get(where))["metadata"]["finalizers"] == ["example.com/audit"]
    await world.kube.patch(where, {"metadata": {"finalizers": None}})
