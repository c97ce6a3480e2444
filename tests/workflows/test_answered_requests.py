"""Requests as updates are refused at once with the reason, or answered within half a minute."""

from datetime import timedelta
from typing import Any

import pytest

from tests.workflows.documents import refused
from tests.workflows.world import World

PATIENCE = 30.5  # seconds


async def trains(world: World, replicas: int = 1, **spec: Any) -> None:
    spec.setdefault("checkpoint", {"checkpointInterval": "5h"})
    await world.submit(replicas=replicas, **spec)
    await world.running(replicas)
    await world.pass_time(200)


# --- done


async def test_checkpoint_now_answers_with_the_checkpoint(world: World) -> None:
    await trains(world)
    answer = await world.request("checkpoint_now")
    assert answer == "checkpoint 1 at step 200"
    assert len(world.documents.told("CheckpointCompleted")) == 1


async def test_a_checkpoint_under_way_answers_as_well(world: World) -> None:
    await trains(world)
    first, second = await world.requests(("checkpoint_now",), ("checkpoint_now",))
    assert first == second
    assert len(world.checkpoints.history) == 1


async def test_suspend_answers_with_what_was_saved(world: World) -> None:
    await trains(world, replicas=2)
    answer = await world.request("suspend")
    if answer.startswith("accepted"):  # the machines take their time
        await world.until(lambda: world.documents.condition("Suspended").status == "True")
        answer = await world.request("suspend")
    assert answer.startswith("2 replicas suspended, checkpoint 1 at ")
    assert world.documents.spec.suspend is True


async def test_resume_says_what_it_waits_for_and_then_that_it_runs(world: World) -> None:
    await trains(world)
    await world.request("suspend")
    await world.until(lambda: world.documents.condition("Suspended").status == "True")
    before = world.clock.now
    answer = await world.request("resume")
    assert answer.startswith("accepted: waits for replica 0 (")
    assert world.clock.now - before <= timedelta(seconds=PATIENCE)
    await world.running(1)
    assert await world.request("resume") == "the job is not suspended"


async def test_resize_answers(world: World) -> None:
    await trains(world, replicas=2)
    assert (await world.request("resize", {"replicas": 3})).startswith("accepted: waits for replica 2 (")
    assert world.documents.spec.replicas == 3
    await world.running(3)
    await world.until(lambda: world.active == 3)
    assert await world.request("resize", {"replicas": 3}) == "3 replicas running"
    await world.request("resize", {"replicas": 1})
    await world.until(lambda: len(world.cloud.instances) == 1)
    assert await world.request("resize", {"replicas": 1}) == "1 replica running"


async def test_a_notice_waits_for_the_replica_to_run_elsewhere(world: World) -> None:
    await trains(world, replicas=2)
    node = world.node_of(0)
    answer = await world.request("preemption_notice", {"replica": 0, "seconds": 60})
    assert answer.startswith("accepted: waits for replica 0 (")
    again = await world.request("preemption_notice", {"node": node})
    assert f"node {node} was announced to go at " in again
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)


# --- accepted, and what it waits for


async def test_an_order_that_waits_says_so_in_the_conditions_own_words(world: World) -> None:
    world.checkpoints.plans = ["fail"] * 500
    await trains(world)
    before = world.clock.now
    answer = await world.request("suspend")
    assert world.clock.now - before <= timedelta(seconds=PATIENCE)
    assert answer.startswith("accepted: ")
    assert "spec.suspendUnsaved" in answer


async def test_no_update_holds_up_a_run_that_is_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continue-as-new waits for handlers, so they answer at once, and the job continues in its next run."""
    monkeypatch.setattr("workflows.common.continue_as_new.EVENTS", 200)  # some eighty more than it has before the flood
    world.down.add("create_checkpoint")
    await trains(world)
    world.clock.after(2, lambda: [world.bridge.tell(world.handle.id, "suspnd") for _ in range(150)])
    before = world.clock.now
    assert (await world.request("checkpoint_now")).startswith("accepted: waits for ")
    assert world.clock.now - before < timedelta(seconds=10)


async def test_ten_orders_at_once_leave_room_for_the_next(world: World) -> None:
    world.down.add("patch_spec")
    await trains(world)
    answers = await world.requests(*[("resize", {"replicas": 2})] * 10)
    assert set(answers) == {"accepted: waits for the API server to take the edit of the spec"}
    world.down.clear()
    assert (await world.request("resize", {"replicas": 2})).startswith("accepted: waits for replica 1 (")


async def test_the_same_update_is_carried_out_once_also_after_continue_as_new(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trains(world)
    first = await world.request("checkpoint_now", id="one")
    monkeypatch.setattr("workflows.common.continue_as_new.EVENTS", 1)
    await world.pass_time(60)
    monkeypatch.setattr("workflows.common.continue_as_new.EVENTS", 3000)
    await world.pass_time(60)
    assert await world.request("checkpoint_now", id="one") == first
    assert len(world.checkpoints.history) == 1


# --- refused


@pytest.mark.parametrize(
    ("name", "inputs", "reason"),
    [
        ("resize", [], 'replicas is missing: resize takes {"replicas": 3}'),
        ("resize", [{"replica": 2}], "there is no field 'replica': resize takes {\"replicas\": 3}"),
        ("resize", [{"replicas": 99}], "replicas is 99, and has to be a whole number from 1 to 16"),
        ("resize", [{"replicas": True}], "replicas is true, and has to be a whole number"),
        ("resize", [[2]], "the input is a list"),
        ("resize", [{"replicas": 2}, 2], "2 inputs were given"),
        ("suspend", [{"now": True}], "there is no field 'now': suspend takes no input"),
        ("checkpoint_now", ["x"], "the input is a text: checkpoint_now takes no input"),
        ("preemption_notice", [], "neither a node nor a replica is named"),
        ("preemption_notice", [{"replica": 5}], "replica 5 does not exist: this job has replicas 0 to 1"),
        ("preemption_notice", [{"nod": "x"}], "there is no field 'nod'"),
        ("preemption_notice", [{"node": "x"}], "node x carries no replica of this job: replica 0 on outlast-"),
        ("preemption_notice", [{"node": "../x"}], "node is a text of 4 characters, and has to be the name of a node"),
        ("preemption_notice", [{"replica": 0, "seconds": -1}], "seconds is -1"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_the_reason(
    world: World, name: str, inputs: list[Any], reason: str
) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    assert reason in await world.refused(name, *inputs)
    assert not world.documents.told("OrderNotUnderstood")  # whoever sent it knows it already


async def test_an_edit_that_the_api_server_refuses_is_the_answer(world: World) -> None:
    await trains(world)

    def refuse(request: object) -> None:
        raise refused("spec.replicas: immutable today")

    world.documents.patch_spec = refuse  # type: ignore[method-assign, assignment]
    reason = await world.refused("resize", {"replicas": 3})
    assert reason == "the API server refuses this edit of the spec: spec.replicas: immutable today"


async def test_a_checkpoint_that_fails_is_the_answer(world: World) -> None:
    world.checkpoints.plans = ["fail"]
    await trains(world)
    assert (await world.refused("checkpoint_now")).startswith("checkpoint 1 failed: ")


async def test_nothing_is_checkpointed_where_nothing_can_be(world: World) -> None:
    world.documents.missing = "gcp"
    await world.submit(replicas=1)
    await world.pass_time(5)
    assert "not admitted yet, so nothing of it runs: create Secret team/gcp" in await world.refused("checkpoint_now")
    world.documents.missing = None
    await world.until(lambda: world.phase(0) == "Provisioning")
    assert "replica 0 is Provisioning" in await world.refused("checkpoint_now")
    await world.running(1)
    world.cluster.set_ready(world.node_of(0), False)
    await world.pass_time(5)
    assert "which is not Ready" in await world.refused("checkpoint_now")


async def test_in_mode_application_no_checkpoint_is_made(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"mode": "Application"})
    await world.running(1)
    assert await world.refused("checkpoint_now") == "in mode Application the training checkpoints itself"


async def test_a_job_that_is_over_or_going_takes_no_orders(world: World) -> None:
    await trains(world)
    world.down.add("stop_replica")
    await world.delete()
    await world.pass_time(5)
    for name, inputs in (("suspend", []), ("checkpoint_now", []), ("resize", [{"replicas": 2}])):
        assert await world.refused(name, *inputs) == "the job is being torn down (Deleted)"


async def test_a_notice_reaches_the_node_on_which_a_replica_starts(world: World) -> None:
    world.cluster.slow_start = 120
    for name in ("gpu-a", "gpu-b"):
        world.cluster.add_node(name)
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Starting" and world.cluster.job_of(0).pod)
    node = world.node_of(0)
    answer = await world.request("preemption_notice", {"replica": 0})
    assert answer.startswith("accepted: waits for replica 0 (")
    await world.running(1)
    assert world.node_of(0) != node


async def test_an_edit_that_is_not_read_yet_is_not_overlooked(world: World) -> None:
    """The suspension is in the spec, and the API server cannot be read yet: resume has to undo it."""
    await trains(world)
    world.down |= {"load_job"}
    await world.signal("suspend")
    await world.until(lambda: world.documents.spec.suspend, 60, "the suspension to be written")
    answer = await world.request("resume")
    assert "not suspended" not in answer
    world.down -= {"load_job"}
    await world.pass_time(900)
    assert not world.documents.spec.suspend
    assert world.active == 1
