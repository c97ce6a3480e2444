"""After a notice the checkpoint is asked for alone. The rest waits for its answer; in a storm, for those of others."""

from datetime import UTC, datetime

import pytest
from temporalio.api.enums.v1 import EventType

from tests.workflows.world import Fault, World

SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED


async def asked_with(world: World, name: str, moment: datetime) -> set[str]:
    """List the activities of the first workflow task since the moment that asked for this one."""
    history = await world.handle.fetch_history()
    tasks: dict[int, set[str]] = {}
    for event in history.events:
        if event.event_type == SCHEDULED and event.event_time.ToDatetime(UTC) >= moment:
            asked = event.activity_task_scheduled_event_attributes
            tasks.setdefault(asked.workflow_task_completed_event_id, set()).add(asked.activity_type.name)
    return next(together for together in tasks.values() if name in together)


def since(world: World, moment: datetime) -> list[tuple[str, float]]:
    return [(call.name, (call.at - moment).total_seconds()) for call in world.calls if call.at >= moment]


async def noticed(world: World, **spec: object) -> datetime:
    """Give notice to one of two replicas, and wait until it runs again."""
    await world.submit(replicas=2, **spec)
    await world.running(2)
    await world.pass_time(60)
    before = world.clock.now
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.phase(0) == "Running")
    return before


async def test_the_checkpoint_is_asked_for_alone(world: World) -> None:
    before = await noticed(world)
    assert await asked_with(world, "create_checkpoint", before) == {"create_checkpoint"}


async def test_so_is_the_stop_of_a_training_that_saves_itself(world: World) -> None:
    before = await noticed(world, checkpoint={"mode": "Application"})
    assert await asked_with(world, "stop_replica", before) == {"stop_replica"}


async def test_in_a_storm_everything_else_waits_for_others(world: World) -> None:
    world.checkpoints.others_wait = 7.0
    before = await noticed(world)
    calls = [call for call in since(world, before) if call[0] in ("create_checkpoint", "find_capacity", "report")]
    assert calls[0][0] == "create_checkpoint"
    assert calls[0][1] < 3
    assert calls[1][1] >= 7
    assert {"find_capacity", "report"} <= {name for name, at in calls if at < 12}


@pytest.mark.parametrize("after", [False, True])
async def test_a_checkpoint_that_cannot_be_asked_for_holds_nobody_up_for_long(world: World, after: bool) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(60)
    before = world.clock.now
    world.faults += [Fault("create_checkpoint", nth, after=after) for nth in range(1, 40)]
    world.notice(0)
    await world.until(lambda: "find_capacity" in dict(since(world, before)))
    assert (world.clock.now - before).total_seconds() < 30
