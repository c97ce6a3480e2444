"""CheckpointBackups of jobs that are gone, taints on living Nodes, images of jobs that are gone, and the alarm."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.kubernetes import ownership
from activities.orphans.alarm import AlarmActivities
from activities.orphans.images import OrphanedImageActivities
from activities.orphans.objects import OrphanedObjectActivities
from activities.signatures import OrphanedObjects, OrphanedTaint, SweepAlarm
from api import names
from clients.kube import KubeError, path
from sandbox.registry import Registry
from tests.activities.fleet_setting import Fleet, fleet
from tests.activities.test_images import Repository
from tests.activities.world import eventually, loopback_gate, run

__all__ = ["fleet"]

BACKUPS = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"


class Objects:
    """The cluster's objects of one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.activities = OrphanedObjectActivities(fleet.temporal, fleet.kube)

    async def backup(self, number: int = 1, **metadata: Any) -> str:
        """Create a CheckpointBackup as the job does, but without the owner reference, on which the API server acts."""
        job = self.fleet.job
        name = names.checkpoint_name(job.name, job.job_id, number)
        body = {
            "apiVersion": BACKUPS,
            "kind": "CheckpointBackup",
            "metadata": {
                "name": name,
                "labels": ownership.labels(job.job_id, 0, 1),
                "annotations": ownership.annotations(job),
                **metadata,
            },
            "spec": {
                "schedule": "immediately",
                "podRef": {"name": "p"},
                "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "j"},
            },
        }
        await self.fleet.kube.create(path(BACKUPS, names.CHECKPOINT_PLURAL, job.namespace), body)
        return name

    async def find(self, grace: float = -60) -> OrphanedObjects:
        found = await run(self.activities.find_orphaned_objects, self.fleet.request(grace))
        ours = [ref for ref in found.checkpoints if ref.job.namespace == self.fleet.job.namespace]
        return found.model_copy(update={"checkpoints": ours})


@pytest.fixture
def objects(fleet: Fleet) -> Objects:
    return Objects(fleet)


async def test_the_checkpoint_of_a_job_that_is_gone_is_an_orphan(objects: Objects) -> None:
    await objects.backup(7)
    await objects.fleet.forget_objects()
    (ref,) = (await objects.find()).checkpoints
    job = objects.fleet.job
    assert (ref.number, ref.job.namespace, ref.job.name, ref.job.job_id) == (7, job.namespace, job.name, job.job_id)


async def test_the_checkpoint_of_a_job_that_lives_is_its_own(objects: Objects) -> None:
    await objects.backup()
    found = await objects.find()
    assert found.checkpoints == []
    assert found.checkpoints_seen >= 1


async def test_the_checkpoint_of_a_job_that_tears_down_is_its_own(objects: Objects) -> None:
    await objects.fleet.open_job()
    await objects.backup()
    await objects.fleet.forget_objects()
    assert (await objects.find()).checkpoints == []
    await objects.fleet.end_job()
    assert len((await objects.find()).checkpoints) == 1


async def test_a_job_of_the_same_name_owns_nothing_of_the_one_before(objects: Objects) -> None:
    fleet = objects.fleet
    await objects.backup()
    await fleet.forget_objects()
    uid = "11111111-2222-3333-4444-555555555555"
    fleet.job = fleet.job.model_copy(update={"uid": uid, "job_id": names.job_id(fleet.cluster_id, uid)})
    await fleet.open_job()
    assert len((await objects.find()).checkpoints) == 1


async def test_a_young_checkpoint_is_left_alone(objects: Objects) -> None:
    await objects.backup()
    await objects.fleet.forget_objects()
    assert (await objects.find(grace=600)).checkpoints == []


async def test_a_checkpoint_that_a_person_asked_for_is_theirs(objects: Objects) -> None:
    await objects.backup(labels={})
    await objects.fleet.forget_objects()
    assert (await objects.find()).checkpoints == []


@pytest.mark.parametrize("workflow", ["", "x" * 2000, "another/job"], ids=["none", "too long", "elsewhere"])
async def test_no_checkpoint_keeps_the_sweep_from_its_end(objects: Objects, workflow: str) -> None:
    """Temporal refuses to be asked about the first two, which somebody made in a namespace of his own."""
    await objects.backup(annotations={names.ANNOTATION_WORKFLOW: workflow})
    await objects.backup(8)
    await objects.fleet.forget_objects()
    assert [ref.number for ref in (await objects.find()).checkpoints] == [8]


# --- marks


@contextlib.asynccontextmanager
async def marked(fleet: Fleet, minutes: float, ready: bool = True, name: str = "") -> AsyncIterator[str]:
    """Make a Node with the agent's taint, so many minutes after the notice."""
    name = name or f"gke-{secrets.token_hex(4)}"
    at = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime(names.MARK_TIME)
    taint = {"key": names.TAINT_PREEMPTED, "value": at, "effect": "NoSchedule"}
    other = {"key": "spot", "value": "true", "effect": "NoSchedule"}
    await fleet.kube.create("/api/v1/nodes", {"metadata": {"name": name}, "spec": {"taints": [other, taint]}})
    try:
        condition = {"type": "Ready", "status": "True" if ready else "Unknown", "reason": "Test", "message": ""}
        await fleet.kube.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [condition]}})
        yield name
    finally:
        await fleet.kube.delete(f"/api/v1/nodes/{name}")


async def taint_of(objects: Objects, name: str) -> OrphanedTaint | None:
    found = await objects.find(grace=600)
    return next((one for one in found.taints if one.node.name == name), None)


@pytest.fixture
async def outlived(objects: Objects) -> AsyncIterator[OrphanedTaint]:
    """Make a taint that its machine has outlived by an hour."""
    async with marked(objects.fleet, 60) as name:
        taint = await taint_of(objects, name)
        assert taint is not None
        yield taint


async def test_a_mark_that_its_machine_outlived_is_taken_off(objects: Objects, outlived: OrphanedTaint) -> None:
    name = outlived.node.name

    async def removed() -> bool:
        try:
            await run(objects.activities.remove_taint, outlived)
        except KubeError as error:
            if error.status != 409:
                raise
            return False  # the node controller has just written it; Temporal retries, too
        return True

    await eventually("its mark is taken off", removed)
    left = [each["key"] for each in (await objects.fleet.kube.get(f"/api/v1/nodes/{name}"))["spec"]["taints"]]
    assert "spot" in left
    assert names.TAINT_PREEMPTED not in left
    assert await taint_of(objects, name) is None


async def test_a_node_that_was_marked_anew_keeps_its_mark(objects: Objects, outlived: OrphanedTaint) -> None:
    await run(objects.activities.remove_taint, outlived.model_copy(update={"value": "20260101T000000Z"}))
    another = outlived.node.model_copy(update={"uid": "another"})
    await run(objects.activities.remove_taint, outlived.model_copy(update={"node": another}))
    assert await taint_of(objects, outlived.node.name) is not None


@pytest.mark.parametrize(("minutes", "ready"), [(1, True), (60, False)])
async def test_a_mark_that_may_still_be_true_stays(objects: Objects, minutes: float, ready: bool) -> None:
    async with marked(objects.fleet, minutes, ready) as name:
        assert await taint_of(objects, name) is None


async def test_the_mark_on_a_machine_that_was_bought_is_its_workflows(objects: Objects) -> None:
    async with marked(objects.fleet, 60, name=names.vm_name(objects.fleet.key, 1)) as name:
        assert await taint_of(objects, name) is None


# --- images


def tag(job_id: str, unix: int = 1_700_000_000) -> str:
    return names.image_tag(job_id, 7, unix)


async def living(fleet: Fleet, repository: Repository, **config: Any) -> None:
    """Make another job, which lives and names the repository."""
    spec = (await fleet.kube.get(fleet.world.job_path))["spec"]
    spec["checkpointConfig"] = {"checkpointImageRepo": repository.full, **config}
    body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "metadata": {"name": "living"}, "spec": spec}
    await fleet.kube.create(fleet.world.path(names.API_VERSION, names.JOB_PLURAL), body)


async def deleted(fleet: Fleet, repository: Repository) -> list[str]:
    """List the images of the repository that a sweep would delete."""
    activities = OrphanedImageActivities(fleet.temporal, fleet.kube, loopback_gate())
    found = await run(activities.find_orphaned_images, fleet.request(images_after=3600))
    of = [one for one in found.deletions if one.config.checkpoint_image_repo == repository.full]
    return [image for one in of for image in one.images]


async def deleted_at_last(fleet: Fleet, repository: Repository) -> list[str]:
    """List them once there are any, because lists of workflows come late."""

    async def found() -> list[str] | None:
        return await deleted(fleet, repository) or None

    return await eventually("images that a sweep would delete", found)


async def test_images_of_a_job_that_this_cluster_had_are_orphans(
    fleet: Fleet, registry: Registry, namespace: str
) -> None:
    repository = Repository(registry.address, f"team/{namespace}")
    young = int(datetime.now(UTC).timestamp())
    for each in (tag(fleet.job.job_id), tag(fleet.job.job_id, young), tag("ffffffff"), "latest"):
        await repository.push(each)
    await living(fleet, repository)
    await fleet.open_job()
    assert await deleted(fleet, repository) == []  # the job lives
    await fleet.end_job()
    assert await deleted(fleet, repository) == []  # its object exists
    await fleet.kube.delete(fleet.world.job_path)
    # Not the young one, not one of another cluster, and not one that is no checkpoint.
    assert await deleted_at_last(fleet, repository) == [f"{repository.full}:{tag(fleet.job.job_id)}"]


@pytest.mark.parametrize("restore", ["LatestTag", "{repository}:base"])
async def test_a_repository_that_a_job_restores_from_is_left_alone(
    fleet: Fleet, registry: Registry, namespace: str, restore: str
) -> None:
    repository = Repository(registry.address, f"team/{namespace}")
    await repository.push(tag(fleet.job.job_id))
    await living(fleet, repository)
    await fleet.open_job()
    await fleet.end_job()
    await fleet.kube.delete(fleet.world.job_path)
    await deleted_at_last(fleet, repository)  # as long as nobody restores from it
    change = {"spec": {"checkpointConfig": {"restoreFrom": restore.format(repository=repository.full)}}}
    await fleet.kube.patch(fleet.world.path(names.API_VERSION, names.JOB_PLURAL, "living"), change)
    assert await deleted(fleet, repository) == []


# --- the alarm


async def test_the_alarm_is_an_event_where_outlast_runs(fleet: Fleet, namespace: str) -> None:
    alarm = SweepAlarm(namespace=namespace, message="x" * 2000, at=datetime(2026, 1, 1, tzinfo=UTC))
    activities = AlarmActivities(fleet.kube, "outlast-worker-1.2.3")
    for _ in range(2):
        await run(activities.sound_alarm, alarm)
    events = await fleet.kube.list(path("v1", "events", namespace))
    (event,) = [each for each in events if each["reason"] == "SweepStopped"]
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "outlast-worker-1.2.3")


async def test_an_alarm_for_nowhere_is_no_error(fleet: Fleet) -> None:
    alarm = SweepAlarm(namespace="is-not-there", message="x", at=datetime(2026, 1, 1, tzinfo=UTC))
    await run(AlarmActivities(fleet.kube, "outlast-worker").sound_alarm, alarm)
