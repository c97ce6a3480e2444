"""``podFailurePolicy`` says what a failure means. The templates are those of a careful batch user."""

import itertools
from typing import Any

from api.reasons import POD_FAILURE_POLICY
from tests.workflows.world import World

FATAL = {"action": "FailJob", "onExitCodes": {"containerName": "train", "operator": "In", "values": [42]}}
HARMLESS = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}
DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
BROKEN = {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]}


async def training(world: World, **spec: Any) -> None:
    """Start a replica that trains under these rules."""
    containers = [{"name": "train", "image": "train:1"}]
    job = {
        "activeDeadlineSeconds": 20_000,
        "ttlSecondsAfterFinished": 3600,
        "backoffLimit": 1,
        "podFailurePolicy": {"rules": [FATAL, HARMLESS, DISRUPTED, BROKEN]},
        "template": {"spec": {"restartPolicy": "Never", "containers": containers}},
    }
    await world.submit(**{"replicas": 1, "jobTemplate": {"spec": job}, **spec})
    await world.running(spec.get("replicas", 1))
    await world.pass_time(700)


async def test_a_fatal_exit_code_fails_the_job_at_once(world: World) -> None:
    await training(world, replicas=2)
    world.cluster.end_pod(world.cluster.job_of(0), 42)
    assert await world.ended() == "Failed"
    failed = world.documents.condition("Failed")
    assert failed is not None
    assert failed.reason == POD_FAILURE_POLICY
    assert "replica 0: container train exited 42, for which rule 1 of podFailurePolicy says FailJob" in failed.message
    assert [world.entry(index).restarts for index in (0, 1)] == [0, 0]
    assert {(0, 0), (1, 0)} <= set(world.cluster.logs)
    assert world.cloud.instances == {}


async def test_its_machine_is_kept_for_its_owner(world: World) -> None:
    await training(world, keepFailedFor="1h")
    world.cluster.end_pod(world.cluster.job_of(0), 42)
    await world.until(lambda: world.entry(0).kept_until)


async def test_a_failure_that_is_ignored_is_no_restart_and_is_paced(world: World) -> None:
    await training(world)
    for incarnation in range(4):
        world.cluster.end_pod(world.cluster.job_of(0), 7)
        await world.until(lambda seen=incarnation: world.entry(0).incarnation == seen + 1 and world.active == 1)
    assert world.entry(0).restarts == 0
    assert len(world.cloud.created) == 1
    began = [world.job(0, incarnation).created_at for incarnation in range(1, 5)]
    waits = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(began)]
    assert waits == sorted(waits)
    assert waits[-1] - waits[0] >= 60, "the same each time: it would go on like that for ever"


async def test_no_rule_counts(world: World) -> None:
    await training(world)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).restarts == 1 and world.active == 1)
    await world.pass_time(400)  # earlier it would be the image's fault
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    assert await world.ended() == "Failed"
    failed = world.documents.condition("Failed")
    assert failed is not None
    assert failed.reason == "RestartsUsedUp"
    assert "replica 0 failed 2 times, of which maxRestarts allows 1; the last time: exit code 1" in failed.message


async def test_a_machine_that_goes_is_no_failure_whatever_the_exit_code(world: World) -> None:
    await training(world)
    world.notice(0)
    world.cluster.end_pod(world.cluster.job_of(0), 42)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert (world.entry(0).restarts, world.entry(0).preemptions) == (0, 1)


async def test_a_condition_of_the_pod_can_be_fatal(world: World) -> None:
    await training(world)
    job = world.cluster.job_of(0)
    assert job.pod is not None
    job.pod.conditions = {"ConfigIssue": "True"}
    world.cluster.end_pod(job, 1)
    assert await world.ended() == "Failed"
    [told] = world.documents.told("Failed")
    assert "its pod has condition ConfigIssue=True" in told


async def test_a_container_beside_others_is_judged_by_its_name(world: World) -> None:
    await training(world)
    world.cluster.end_container(world.cluster.job_of(0), "proxy", 42)  # the rule is about another container
    await world.until(lambda: world.entry(0).restarts == 1 and world.active == 1)
    world.cluster.end_container(world.cluster.job_of(0), "train", 42)
    assert await world.ended() == "Failed"
