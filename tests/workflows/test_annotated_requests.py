"""Requests with Kubernetes rights alone, by the request annotation. The answer is in the status."""

from datetime import timedelta

import pytest

from tests.workflows.world import World


def answer(world: World) -> tuple[str, str]:
    request = world.documents.status.request
    return (request.state, request.message) if request else ("", "")


async def trains(world: World, replicas: int = 1) -> None:
    await world.submit(replicas=replicas, checkpoint={"checkpointInterval": "5h"})
    await world.running(replicas)
    await world.pass_time(200)


async def test_a_checkpoint_is_asked_for_and_answered(world: World) -> None:
    await trains(world)
    world.documents.ask("checkpoint-now 1764531300")
    await world.until(lambda: answer(world)[0] == "Done", within=60)
    states = [each.request.state for each in world.documents.statuses if each.request]
    assert states[0] == "Accepted"
    assert answer(world)[1].startswith("checkpoint 1 at step 20")
    assert world.documents.status.request.value == "checkpoint-now 1764531300"


async def test_the_same_value_is_carried_out_once(world: World) -> None:
    await trains(world)
    for _ in range(3):
        world.documents.ask("checkpoint-now 1")
        await world.pass_time(60)
    assert len(world.checkpoints.history) == 1
    world.documents.ask("checkpoint-now 2")
    await world.until(lambda: len(world.checkpoints.history) == 2, within=60)


async def test_a_request_outlives_continue_as_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.down.add("create_checkpoint")
    await trains(world)
    world.documents.ask("checkpoint-now 1")
    await world.until(lambda: answer(world)[0] == "Accepted", within=60)
    monkeypatch.setattr("workflows.common.continue_as_new.EVENTS", 1)
    await world.signal("checkpoint_now")
    await world.pass_time(10)
    monkeypatch.setattr("workflows.common.continue_as_new.EVENTS", 3000)
    world.documents.ask("checkpoint-now 1")
    await world.until(lambda: answer(world)[0] == "Failed", within=600)
    assert answer(world)[1].startswith("checkpoint 1 failed: ")
    world.down.clear()
    world.documents.ask("checkpoint-now 2")
    await world.until(lambda: answer(world)[0] == "Done", within=600)


async def test_a_loss_is_rehearsed(world: World) -> None:
    await trains(world, replicas=2)
    world.documents.ask("preemption-notice replica=0 seconds=60 first")
    await world.until(lambda: answer(world)[0] == "Accepted", within=30)
    await world.until(lambda: answer(world)[0] == "Done", within=900)
    assert world.entry(0).incarnation == 1
    assert answer(world)[1].startswith("replica 0 of 2 runs again on node outlast-")
    assert "from checkpoint 1 at step 20" in answer(world)[1]


async def test_a_loss_by_the_name_of_the_node(world: World) -> None:
    await trains(world, replicas=2)
    world.documents.ask(f"preemption-notice node={world.node_of(1)} seconds=60")
    await world.until(lambda: world.entry(1).incarnation == 1 and answer(world)[0] == "Done", within=900)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("checkpoint_now", "'checkpoint_now' cannot be requested: write checkpoint-now, or preemption-notice with"),
        ("suspend", "suspend is no request but an edit of the spec: set spec.suspend: true"),
        ("resize replicas=3", "set spec.replicas, or use kubectl scale"),
        ("checkpoint-now now please", "2 words follow checkpoint-now"),
        ("checkpoint-now replica=1", "there is no field 'replica'"),
        ("preemption-notice 1", "neither a node nor a replica is named"),
        ("preemption-notice replica=x", "replica is 'x', and has to be the index of a replica"),
        ("preemption-notice replica=5 1", "replica 5 does not exist: this job has replicas 0 to 1"),
        ("preemption-notice replica=0 replica=1", "a field is given twice"),
        ("preemption-notice replica=0 seconds=-5", "seconds is -5"),
        ("s3cret " * 100, "a request has at most 256 characters"),
        ("\t", "a text of 0 characters cannot be requested"),
    ],
)
async def test_a_bad_request_is_refused_in_the_status_and_by_an_event(world: World, value: str, reason: str) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.documents.ask(value)
    await world.until(lambda: answer(world)[0] == "Refused", within=30)
    assert reason in answer(world)[1]
    [told] = world.documents.told("RequestRefused")
    assert reason in told
    assert "s3cret" not in told
    assert world.documents.status.request.at is not None
    assert world.clock.now - world.documents.status.request.at < timedelta(seconds=60)


async def test_a_request_of_a_job_that_is_not_admitted_is_refused_for_now(world: World) -> None:
    world.documents.missing = "gcp"
    world.documents.requested = "checkpoint-now 1"
    await world.submit(replicas=1)
    await world.until(lambda: answer(world)[0] == "Refused", within=60)
    assert "create Secret team/gcp" in answer(world)[1]


async def test_a_deletion_answers_the_request_that_is_open(world: World) -> None:
    world.down.add("create_checkpoint")
    await trains(world)
    world.documents.ask("checkpoint-now 1")
    await world.until(lambda: answer(world)[0] == "Accepted", within=60)
    await world.delete()
    await world.ended()
    assert answer(world)[0] == "Failed"
