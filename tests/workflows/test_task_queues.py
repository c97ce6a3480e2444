"""Which activities go first, which have a task queue of their own, and that a worker polls all queues."""

from collections import defaultdict
from typing import Any

import pytest
from temporalio.worker import UnsandboxedWorkflowRunner
from temporalio.workflow import Info

from activities import signatures as act
from api.names import CREATES_QUEUE, LONG_QUEUE, TAINT_PREEMPTED, TASK_QUEUE, URGENT
from tests.workflows import world as worlds
from tests.workflows.tap import Tap
from tests.workflows.world import World
from worker.versions import QUEUES

Queues = dict[str, set[tuple[str, int]]]


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Queues:
    """The queues on which each activity was scheduled in this test, with its priority: 0 is the usual one."""
    seen: Queues = defaultdict(set)

    def hear(_: Info, command: Any) -> None:
        if command.HasField("schedule_activity"):
            activity = command.schedule_activity
            seen[activity.activity_type].add((activity.task_queue, activity.priority.priority_key))

    monkeypatch.setattr(worlds, "RUNNER", Tap(UnsandboxedWorkflowRunner(), hear))
    return seen


async def test_only_the_checkpoint_of_a_notice_is_urgent(queues: Queues, world: World) -> None:
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "3m"})
    await world.running(2)
    await world.until(lambda: world.checkpoints.registry, within=600)
    assert queues["create_checkpoint"] == {(TASK_QUEUE, 0)}
    world.cluster.mark(world.node_of(0), TAINT_PREEMPTED)
    await world.until(lambda: world.entry(0).incarnation == 1, within=600)
    assert queues.pop("create_checkpoint") == {(TASK_QUEUE, 0), (TASK_QUEUE, URGENT)}
    assert URGENT not in {priority for _, priority in set.union(*queues.values())}
    assert (queues["create_vm"], queues["observe_join"]) == ({(CREATES_QUEUE, 0)}, {(LONG_QUEUE, 0)})


@pytest.mark.parametrize("signature", act.ALL, ids=lambda signature: signature.name)
def test_what_may_last_takes_no_slot_of_what_is_done_at_once(signature: act.Signature[Any, Any]) -> None:
    lasts = signature.timeout > 20 or signature.heartbeat is not None
    assert (signature.task_queue in (LONG_QUEUE, CREATES_QUEUE)) == lasts


def test_a_release_is_current_only_if_all_its_queues_are_polled() -> None:
    used = {signature.task_queue or TASK_QUEUE for signature in act.ALL}
    assert {queue for queue, _, kind in QUEUES if kind == "activities"} == used
