"""``activeDeadlineSeconds`` counts the training's time over all incarnations, replicas and runs of its workflow."""

from typing import Any

import pytest

from api.reasons import DEADLINE_EXCEEDED
from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World
from workflows.common import continue_as_new as history


def template(job: int | None = None, pod: int | None = None) -> dict[str, Any]:
    """Make a jobTemplate with a deadline of the Job, its pod, or both."""
    return {
        "spec": {
            "template": {
                "spec": {
                    "containers": [{"name": "train", "image": "train:1"}],
                    **({"activeDeadlineSeconds": pod} if pod else {}),
                }
            },
            **({"activeDeadlineSeconds": job} if job else {}),
        }
    }


def failed(world: World) -> Any:
    return world.documents.condition("Failed")


async def trained_until_failed(world: World) -> float:
    """Count the seconds from the first start until the job reports that it has failed."""
    await world.until(lambda: failed(world), within=6 * 3600)
    started = min(job.pod.started_at for job in world.cluster.history.values() if job.pod and job.pod.started_at)
    seconds: float = (failed(world).last_transition_time - started).total_seconds()
    return seconds


@pytest.mark.parametrize("limits", [{"job": 1800}, {"pod": 1800}, {"job": 1800, "pod": 3600}])
async def test_it_ends_the_job_with_its_log_saved(world: World, limits: dict[str, int]) -> None:
    await world.submit(replicas=2, jobTemplate=template(**limits))
    await world.running(2)
    await world.until(lambda: failed(world), within=3600)
    started = min(world.job(index, 0).created_at for index in (0, 1))
    assert 1800 <= (world.clock.now - started).total_seconds() < 1900
    assert await world.ended() == "Failed"
    assert failed(world).reason == DEADLINE_EXCEEDED
    assert "restoreFrom set to status.lastCheckpointImage" in failed(world).message
    assert {(0, 0), (1, 0)} <= set(world.cluster.logs)
    assert world.cloud.instances == {}
    assert world.cluster.jobs == {}


async def test_it_counts_over_all_incarnations(world: World) -> None:
    await world.submit(replicas=1, jobTemplate=template(3600))
    await world.running(1)
    begun = world.clock.now
    for incarnation in (1, 2):
        await world.pass_time(900)
        world.notice(0)
        await world.until(lambda seen=incarnation: world.entry(0).incarnation == seen and world.active == 1)
    await world.until(lambda: failed(world), within=3600)
    assert 3500 < (world.clock.now - begun).total_seconds() < 3700
    assert failed(world).reason == DEADLINE_EXCEEDED


async def test_the_time_while_it_is_suspended_does_not_count(world: World) -> None:
    await world.submit(replicas=1, jobTemplate=template(3600))
    await world.running(1)
    await world.pass_time(1000)
    world.documents.edit(suspend=True)
    await world.until(lambda: world.phase(0) == "Suspended")
    await world.pass_time(7200)
    assert failed(world) is None
    world.documents.edit(suspend=False)
    await world.running(1)
    resumed = world.clock.now
    await world.until(lambda: failed(world), within=3600)
    assert 2000 < (world.clock.now - resumed).total_seconds() < 2700


async def test_waiting_for_the_first_machine_does_not_count(world: World) -> None:
    world.cloud.exhausted = {"us-central1-a"}
    await world.submit(replicas=1, jobTemplate=template(1800))
    await world.pass_time(7200)
    world.cloud.exhausted = set()
    await world.running(1, within=7200)
    await world.pass_time(1500)
    assert world.active == 1


async def test_it_is_kept_over_continue_as_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.submit(replicas=1, jobTemplate=template(7200))
    await world.running(1)
    begun = world.clock.now
    monkeypatch.setattr(history, "EVENTS", 100)
    await world.pass_time(3600)
    assert await runs(world) > 1
    await world.until(lambda: failed(world), within=7200)
    assert 7100 < (world.clock.now - begun).total_seconds() < 7300


async def test_an_end_that_came_in_time_counts(world: World) -> None:
    world.cluster.steps = 1780
    await world.submit(replicas=1, jobTemplate=template(1800))
    assert await world.ended(within=3600) == "Completed"


async def test_a_deadline_that_kubernetes_kept_ends_the_job_too(world: World) -> None:
    """A Job that an earlier release made has the field, so its controller deletes the pod."""
    await world.submit(replicas=1)
    await world.running(1)
    job = world.cluster.job_of(0)
    job.failed = DEADLINE_EXCEEDED
    world.cluster.delete_pod(job)
    assert await world.ended() == "Failed"
    assert failed(world).reason == DEADLINE_EXCEEDED
    assert world.entry(0).preemptions == 0


async def test_a_pods_own_deadline_that_the_kubelet_kept_ends_the_job_too(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    job = world.cluster.job_of(0)
    assert job.pod is not None
    job.pod.reason = DEADLINE_EXCEEDED
    world.cluster.end_pod(job, 137)
    assert await world.ended() == "Failed"
    assert failed(world).reason == DEADLINE_EXCEEDED
