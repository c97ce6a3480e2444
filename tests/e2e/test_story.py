"""The whole story once: two replicas, one preempted, then both, completion, deletion. Each test asserts one thing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from sandbox.demo.observer import holds
from sandbox.demo.sight import image_of, progress_of, tag_of
from sandbox.demo.trainings import Training
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


@dataclass
class Loss:
    """What was before VMs were preempted and what came after; times are Unix times in seconds."""

    at: float
    vms: list[str]
    before: list[Training]
    images: list[str]
    """Tags of the images of the survivor's checkpoints after the notice, or of the newest image before it."""
    after: list[Training]


@dataclass
class Told:
    """The story, once it is over."""

    job: Running
    one: Loss
    survivors_backup_at: float
    """When the survivor's CheckpointBackup was Completed."""
    restored_from: str
    both: Loss
    left: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(rig: Rig) -> AsyncIterator[Told]:
    namespace = await rig.namespace()
    manifest = rig.job("story", interval="5s")
    job = await rig.start(namespace, manifest)
    await job.checkpointed()

    # The one that was checkpointed: so young an image of the survivor would do, and no new one would be requested.
    index = 0 if job.completed_backups()[0]["spec"]["podRef"]["name"] == job.training(0).pod else 1
    lost, survivor = job.training(index), job.training(1 - index)
    began = time.time()
    vms = await job.preempt(index)
    await rig.until(lambda: job.completed_backups(survivor.pod, began), 60, "the survivor's checkpoint")
    completed_at = time.time()
    await job.trains(index, but=(lost,))
    restored_from = tag_of(job.entry(index)["restoredFrom"])
    survivors = [tag_of(image_of(each)) for each in job.completed_backups(survivor.pod, began)]
    one = Loss(began, vms, [lost], survivors, [job.training(index)])

    befores = [job.training(0), job.training(1)]
    image = await job.checkpointed()
    began = time.time()
    vms = await job.preempt(0, 1)
    await job.trains(0, 1, but=tuple(befores))
    both = Loss(began, vms, befores, [image], [job.training(0), job.training(1)])

    await job.completed()
    await rig.delete(namespace, CREDENTIALS, machine(), manifest)
    with contextlib.suppress(AssertionError):  # its own test reports it
        await job.nothing_left()
    yield Told(job, one, completed_at, restored_from, both, job.left_over())
    await rig.kubectl("delete", "namespace", namespace, "--wait=false")


async def test_survivor_is_checkpointed_within_the_notice(told: Told) -> None:
    assert told.survivors_backup_at - told.one.at < 30


async def test_lost_replica_goes_on_from_the_survivors_image(told: Told) -> None:
    survivors = told.one.images
    # Progress decides: a checkpoint that ended just before the notice may contain more than the one requested first.
    further = progress_of(told.restored_from) >= min(map(progress_of, survivors))
    assert survivors
    assert told.restored_from in survivors or further


async def test_restored_training_knows_who_it_is_now(told: Told) -> None:
    identity = next(line for line in told.one.after[0].lines if line.startswith("identity"))
    assert f"replica={told.one.after[0].replica} " in f"{identity} "
    assert f"incarnation={told.one.after[0].incarnation} " in f"{identity} "


async def test_without_a_survivor_no_more_is_lost_than_since_the_last_finished_checkpoint(told: Told) -> None:
    step_of_image = progress_of(told.both.images[0])
    assert all((training.first or 0) >= step_of_image > 0 for training in told.both.after)


async def test_no_old_job_is_deleted_before_its_successors_node_was_ready(told: Told) -> None:
    history = told.job.observer.history
    for before, after in zip([*told.one.before, *told.both.before], [*told.one.after, *told.both.after], strict=True):
        deleted = next(
            each.at
            for each in history
            if each.kind == "jobs.batch"
            and each.name == before.job_name
            and (each.type == "DELETED" or "deletionTimestamp" in each.object["metadata"])
        )
        node = next(
            each.object["spec"]["nodeName"]
            for each in history
            if each.name == after.pod and each.kind == "pods" and "nodeName" in each.object["spec"]
        )
        ready = next(
            each.at for each in history if each.kind == "nodes" and each.name == node and holds(each.object, "Ready")
        )
        assert deleted > ready, f"{before.job_name} was deleted {ready - deleted:.1f} s before {node} was Ready"


async def test_no_node_is_deleted_before_its_vm_was_gone(told: Told) -> None:
    observer = told.job.observer
    deletions = [
        each
        for each in observer.history
        if each.kind == "nodes" and each.type == "DELETED" and told.job.id in each.name
    ]
    assert len(deletions) == 5
    for each in deletions:
        gone = observer.happened("deleted", each.name)
        assert gone is not None
        assert gone < each.at


async def test_every_pod_but_the_first_ones_goes_on_from_an_image(told: Told) -> None:
    later = [each for each in told.job.trainings.of(told.job.id) if each.incarnation > 0]
    assert len(later) == 3
    assert all(each.first for each in later)


async def test_nothing_is_left_over(told: Told) -> None:
    assert told.left == []
