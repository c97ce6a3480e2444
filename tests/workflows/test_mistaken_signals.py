"""A signal that makes no sense leaves a Warning Event, which says what was received and what is right."""

from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from tests.workflows.world import World


@pytest.mark.parametrize(
    ("name", "message", "told"),
    [
        ("resize", None, 'signal resize: replicas is missing: resize takes {"replicas": 3}'),
        ("resize", {"replicas": 99}, "replicas is 99, and has to be a whole number from 1 to 16"),
        ("resize", {"replica": 2}, "there is no field 'replica'"),
        ("suspend", {"replicas": 2}, "there is no field 'replicas': suspend takes no input"),
        ("checkpoint_now", "s3cret", "the input is a text: checkpoint_now takes no input"),
        ("preemption_notice", {"replica": 5}, "replica 5 does not exist: this job has replicas 0 to 1"),
        ("preemption_notice", {"nod": "x"}, "there is no field 'nod'"),
        ("preemption_notice", {"node": "x"}, "node x carries no replica of this job"),
        ("preemption_notice", {"the password is s3cret": 1}, "there is no field a text of 22 characters"),
        ("suspnd", None, "there is no signal 'suspnd': a job takes checkpoint_now, preemption_notice, resize, resume"),
    ],
)
async def test_a_mistake_leaves_one_event(world: World, name: str, message: Any, told: str) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    for _ in range(3):
        await world.signal(name, message)
        await world.pass_time(5)
    [event] = [each for each in world.documents.events if each.reason == "OrderNotUnderstood"]
    assert told in event.message
    assert event.type == "Warning"
    assert "s3cret" not in event.message
    assert world.documents.spec.replicas == 2
    assert world.active == 2


async def test_a_mistake_is_told_again_an_hour_later(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for pause in (10, 3600, 0):
        await world.signal("suspnd")
        await world.pass_time(pause)
    await world.pass_time(10)
    assert len(world.documents.told("OrderNotUnderstood")) == 2


async def test_what_is_no_json_is_told(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for encoding, data in ((b"json/plain", b"{"), (b"binary/plain", b"x"), (b"json/plain", b"[" * 3000)):
        await world.signal("resize", RawValue(Payload(metadata={"encoding": encoding}, data=data)))
    await world.pass_time(5)
    told = world.documents.told("OrderNotUnderstood")
    assert told == ['signal resize: the input is no JSON: resize takes {"replicas": 3}']


async def test_a_crowd_of_mistakes_is_bounded(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for number in range(300):
        await world.signal(f"request_{number}")
    await world.pass_time(60)
    told = world.documents.told("OrderNotUnderstood")
    assert len(told) == 21
    assert "no longer reported" in told[-1]
    await world.request("checkpoint_now")
    await world.pass_time(3600)
    await world.signal("suspnd")
    await world.pass_time(5)
    assert "'suspnd'" in world.documents.told("OrderNotUnderstood")[-1]


async def test_signals_of_programs_of_a_later_version_are_no_mistakes(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for name, message in (
        ("quota_changed", {"left": 2}),
        ("licence_asked", None),
        ("preemption_notice", {"source": "aws-node-termination-handler", "node": "x", "kind": "rebalance"}),
        ("preemption_notice", {"source": "an agent of tomorrow", "seconds": "soon"}),
    ):
        await world.signal(name, message)
    await world.pass_time(60)
    assert world.documents.told("OrderNotUnderstood") == []
    assert world.active == 1


async def test_an_empty_input_is_none(world: World) -> None:
    """Scripts pass ``--input '{}'`` and ``--input null`` for a request that takes no input."""
    await world.submit(replicas=1)
    await world.running(1)
    await world.signal("checkpoint_now", {})
    await world.signal("checkpoint_now", RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"null")))
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=60)
    assert world.documents.told("OrderNotUnderstood") == []


async def test_text_that_cannot_be_written_again_is_no_json(world: World) -> None:
    """No payload can contain half of a surrogate pair, so no later task would succeed."""
    await world.submit(replicas=1)
    await world.running(1)
    data = rb'{"replica": 0, "source": "\ud800"}'
    await world.signal("preemption_notice", RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data)))
    await world.pass_time(60)
    assert world.active == 1
    assert len(world.documents.told("OrderNotUnderstood")) == 1
