"""Logs outlive their pods: real pods of light nodes, a real API server as the worker, and a bucket over HTTP."""

import asyncio
from typing import Any

import pytest

from activities.kubernetes.ownership import labels, owner
from activities.replicas import logs as module
from activities.replicas import pods, saved_log
from activities.replicas.activities import ReplicaActivities
from activities.replicas.logs import LogActivities
from activities.signatures import SavedLog, SaveLogs, ShortenedLogs, ShortenLogs
from activities.storage.bucket import SecretBuckets
from api.spot_instance_job import CheckpointStorage
from clients.kube import Kube
from sandbox.object_store import ObjectStore
from tests.activities.world import World, eventually, loopback_gate, run, training
from tests.sandbox.light_nodes import Nodes

PREFIX = "team/0a1b2c3d/logs/r0"
CONFIG_MAP = "resnet-0a1b2c3d-r0-log"


@pytest.fixture
def replicas(kube: Kube, namespace: str) -> ReplicaActivities:
    return ReplicaActivities(kube, namespace)


@pytest.fixture
def logs(kube: Kube) -> LogActivities:
    return LogActivities(kube, SecretBuckets(kube, loopback_gate()))


def storage(store: ObjectStore) -> CheckpointStorage:
    return CheckpointStorage(type="gcs", bucket="checkpoints", path_prefix="/team/", endpoint=store.url)


def objects(store: ObjectStore) -> dict[str, str]:
    return {key: found.body.decode() for key, found in store.buckets["checkpoints"].items()}


async def saved(world: World) -> str:
    found = await world.kube.get(world.path("v1", "configmaps", "resnet-0a1b2c3d-r0-log"))
    text: str = found["data"]["log"]
    return text


async def test_log_is_saved_joined_over_incarnations_and_once_each(
    world: World, replicas: ReplicaActivities, logs: LogActivities, nodes: Nodes
) -> None:
    node = await nodes.start(gpus=2)
    for incarnation in (1, 2):
        request = world.create_replica(node, incarnation=incarnation, job_template=training(steps=3))
        await run(replicas.create_replica, request)
        ref = world.replica(incarnation=incarnation)

        async def ended() -> bool:
            view = await run(replicas.observe_replica, ref)  # noqa: B023 # awaited before the next turn
            return view.pod is not None and view.pod.exit_code == 0

        await eventually("pod ended", ended)
        await run(logs.save_logs, SaveLogs(ref=ref))
    again = await run(logs.save_logs, SaveLogs(ref=world.replica(incarnation=1)))
    assert (again.location, again.added_bytes > 0) == (
        f"configmap/{world.job.namespace}/resnet-0a1b2c3d-r0-log",
        True,
    )
    lines = (await saved(world)).splitlines()
    headers = [line for line in lines if line.startswith("===")]
    assert headers == [f"=== 0a1b2c3d replica 0 incarnation {number} ===" for number in (1, 2)]
    assert sum("step=3/3" in line for line in lines) == 2


async def test_of_a_long_log_no_more_than_its_end_is_held_in_memory(
    world: World, replicas: ReplicaActivities, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many lines were requested, root on the node sends what it likes."""
    node = await nodes.start()
    await run(replicas.create_replica, world.create_replica(node, job_template=training(steps=3)))

    async def whole() -> str | None:
        for pod in await pods.pods_of(world.kube, world.replica()):
            said = await pods.read_log(world.kube, pod, "trainer", 500)
            return said if "step=3/3" in said else None
        return None

    said = await eventually("pod ended", whole)
    monkeypatch.setattr(pods, "TAIL", 20)
    [pod] = await pods.pods_of(world.kube, world.replica())
    assert len(await pods.read_log(world.kube, pod, "trainer", 500)) == 20 < len(said)


async def test_log_of_a_dead_machine_leaves_what_was_saved(
    world: World, replicas: ReplicaActivities, logs: LogActivities, nodes: Nodes
) -> None:
    node = await nodes.start()
    await run(replicas.create_replica, world.create_replica(node))
    await world.running(replicas.observe_replica, world.replica())
    await eventually("a log", lambda: has_log(world, logs))
    before = await saved(world)
    await nodes.kubelets[node].kill()
    after = await run(logs.save_logs, SaveLogs(ref=world.replica()))
    assert (after.added_bytes, await saved(world)) == (0, before)


async def has_log(world: World, logs: LogActivities) -> bool:
    return (await run(logs.save_logs, SaveLogs(ref=world.replica()))).added_bytes > 0


# --- in the bucket


async def trained(world: World, replicas: ReplicaActivities, node: str, incarnation: int, **container: Any) -> None:
    """Run an incarnation to its end; its pod still exists."""
    request = world.create_replica(node, incarnation=incarnation, job_template=training(**{"steps": 3, **container}))
    await run(replicas.create_replica, request)

    async def ended() -> bool:
        view = await run(replicas.observe_replica, world.replica(incarnation=incarnation))
        return view.pod is not None and view.pod.exit_code == 0

    await eventually("pod ended", ended)


async def save(world: World, logs: LogActivities, store: ObjectStore, incarnation: int = 1) -> SavedLog:
    return await run(logs.save_logs, SaveLogs(ref=world.replica(incarnation=incarnation), storage=storage(store)))


async def test_each_incarnation_has_an_object_of_its_own_and_no_config_map_is_made(
    world: World, replicas: ReplicaActivities, logs: LogActivities, nodes: Nodes, store: ObjectStore
) -> None:
    node = await nodes.start(gpus=2)
    for incarnation in (1, 2):
        await trained(world, replicas, node, incarnation)
        for _ in range(2):  # as after a lost answer
            kept = await save(world, logs, store, incarnation)
            assert (kept.location, kept.problem) == (f"gs://checkpoints/{PREFIX}", "")
            assert kept.added_bytes > 0
    assert sorted(objects(store)) == [f"{PREFIX}/i00001.log", f"{PREFIX}/i00002.log"]
    joined = "".join(text for _, text in sorted(objects(store).items()))
    assert [line for line in joined.splitlines() if line.startswith("===")] == [
        f"=== 0a1b2c3d replica 0 incarnation {number} ===" for number in (1, 2)
    ]
    assert joined.count("step=3/3") == 2
    assert await world.kube.find(world.path("v1", "configmaps", CONFIG_MAP)) is None


async def test_the_whole_log_is_kept_and_of_one_beyond_the_bound_its_beginning_and_its_end(
    world: World,
    replicas: ReplicaActivities,
    logs: LogActivities,
    nodes: Nodes,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await trained(world, replicas, await nodes.start(), 1, steps=60)
    await save(world, logs, store)
    whole = objects(store)[f"{PREFIX}/i00001.log"]
    assert whole.count("step=") >= 60
    monkeypatch.setattr(module, "WHOLE", 400)
    monkeypatch.setattr(module, "END", 100)
    await save(world, logs, store)
    short = objects(store)[f"{PREFIX}/i00001.log"]
    assert len(short) < 700
    first, last = whole.splitlines()[1], whole.splitlines()[-1]
    assert short.splitlines()[1] == first
    assert short.splitlines()[-1] == last
    assert "its end was" in short


async def test_a_log_that_cannot_be_read_any_more_leaves_the_object_as_it_is(
    world: World, replicas: ReplicaActivities, logs: LogActivities, nodes: Nodes, store: ObjectStore
) -> None:
    node = await nodes.start()
    await run(replicas.create_replica, world.create_replica(node))
    await world.running(replicas.observe_replica, world.replica())

    async def has_some() -> bool:
        return (await save(world, logs, store)).added_bytes > 200

    await eventually("a log", has_some)
    before = objects(store)
    await nodes.kubelets[node].kill()
    assert (await save(world, logs, store)).added_bytes == 0
    assert objects(store) == before


async def test_a_node_that_stops_answering_in_the_middle_costs_only_the_rest(
    world: World,
    replicas: ReplicaActivities,
    logs: LogActivities,
    nodes: Nodes,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await trained(world, replicas, await nodes.start(), 1, steps=60)

    async def dies(*asked: Any, **options: Any) -> Any:
        yield b"the first line\n"
        raise TimeoutError

    monkeypatch.setattr(module, "stream_log", dies)
    await save(world, logs, store)
    (kept,) = objects(store).values()
    assert "the first line" in kept
    assert "the node stopped answering here" in kept
    monkeypatch.undo()
    await save(world, logs, store)
    whole = objects(store)
    monkeypatch.setattr(module, "stream_log", dies)
    assert (await save(world, logs, store)).added_bytes == 0
    assert objects(store) == whole, "what was cut short replaced a longer one"


# --- a bucket that cannot be written


@pytest.mark.parametrize("fault", ["refused", "missing", "away", "silent"])
async def test_a_bucket_that_cannot_be_written_costs_no_log(
    world: World,
    replicas: ReplicaActivities,
    logs: LogActivities,
    nodes: Nodes,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    await trained(world, replicas, await nodes.start(), 1)
    where = storage(store)
    silent = None
    if fault == "refused":
        store.refused.add("checkpoints")
    elif fault == "missing":
        where = where.model_copy(update={"bucket": "none"})
    elif fault == "away":
        await store.stop()
    else:
        monkeypatch.setattr(module, "BUCKET_SECONDS", 3.0)
        silent = await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0)
        where = where.model_copy(update={"endpoint": f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"})
    kept = await run(logs.save_logs, SaveLogs(ref=world.replica(), storage=where))
    reasons = {"refused": "PermissionDenied", "missing": "Missing", "away": "Transient", "silent": "Transient"}
    assert (kept.reason, kept.location) == (
        reasons[fault],
        f"configmap/{world.job.namespace}/{CONFIG_MAP}",
    )
    assert kept.problem
    assert "step=3/3" in await saved(world)
    if silent is not None:
        silent.close()


# --- at the job's end


async def config_map(world: World, text: str, replica: int = 0, **more: Any) -> None:
    """Read the ConfigMap as the worker makes it."""
    metadata = {
        "name": f"resnet-0a1b2c3d-r{replica}-log",
        "labels": labels(world.job.job_id, replica),
        "ownerReferences": [owner(world.job)],
        **more,
    }
    await world.kube.create(world.path("v1", "configmaps"), {"metadata": metadata, "data": {"log": text}})


async def shorten(world: World, logs: LogActivities, **more: Any) -> ShortenedLogs:
    return await run(logs.shorten_logs, ShortenLogs(job=world.job, replicas=[0, 1, 2], **more))


async def test_a_finished_jobs_log_shrinks_to_its_end(world: World, logs: LogActivities) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    await config_map(world, text)
    for _ in range(2):
        assert (await shorten(world, logs)).problem == ""
        kept = await saved(world)
        assert len(kept.encode()) <= saved_log.AFTER_END
        assert kept.startswith("--- shortened at the job's end to its last 32 KiB")
        assert kept.endswith("line 19999\n")


async def test_a_short_one_stays_as_it_is(world: World, logs: LogActivities) -> None:
    await config_map(world, "a\nb\n")
    await shorten(world, logs)
    assert await saved(world) == "a\nb\n"


async def test_what_was_kept_in_the_cluster_moves_into_the_bucket_once_it_answers(
    world: World, logs: LogActivities, store: ObjectStore
) -> None:
    text = "x" * 100_000
    await config_map(world, text)
    await config_map(world, "short", replica=2)
    assert (await shorten(world, logs, storage=storage(store))).moved == 2
    await shorten(world, logs, storage=storage(store))
    assert objects(store)[f"{PREFIX}/kept-in-cluster.log"] == text
    assert objects(store)["team/0a1b2c3d/logs/r2/kept-in-cluster.log"] == "short"
    assert f"the whole is gs://checkpoints/{PREFIX}/kept-in-cluster.log" in await saved(world)


async def test_etcd_is_spared_even_if_the_bucket_refuses(world: World, logs: LogActivities, store: ObjectStore) -> None:
    await config_map(world, "x" * 100_000)
    store.refused.add("checkpoints")
    shortened = await shorten(world, logs, storage=storage(store))
    assert shortened.reason == "PermissionDenied"
    assert len(await saved(world)) <= saved_log.AFTER_END


async def test_a_config_map_of_somebody_else_is_left_alone(world: World, logs: LogActivities) -> None:
    await config_map(world, "x" * 100_000, labels={})
    assert await shorten(world, logs) == ShortenedLogs()
    assert len(await saved(world)) == 100_000
