"""Whoever announces a machine's end, and however many do, there is one recovery."""

from collections.abc import Awaitable, Callable
from datetime import UTC
from itertools import permutations

import pytest
from temporalio.api.enums.v1 import EventType

from api import names
from api.market import PREEMPTED
from api.messages import PreemptionNotice
from api.projections import MARK_SHUTDOWN
from tests.hostile import HOSTILE
from tests.workflows.world import WORKFLOW_ID, World

Source = Callable[[World, str], Awaitable[None]]


def marked(mark: str) -> Source:
    async def source(world: World, node: str) -> None:
        world.cluster.mark(node, mark)

    return source


async def not_ready(world: World, node: str) -> None:
    world.cluster.set_ready(node, False)


async def gone(world: World, node: str) -> None:
    world.cloud.power_off(node)


async def a_person(world: World, node: str) -> None:
    await world.notice_by_hand(node=node)


async def a_person_by_replica(world: World, node: str) -> None:
    await world.notice_by_hand(replica=0)


SOURCES: dict[str, Source] = {
    "agent": marked(names.TAINT_PREEMPTED),
    "GKE": marked("cloud.google.com/impending-node-termination"),
    "NTH": marked("aws-node-termination-handler/spot-itn"),
    "Karpenter": marked("karpenter.sh/disrupted"),
    "AKS": marked("PreemptScheduled"),
    "kubelet": marked(MARK_SHUTDOWN),
    "NotReady": not_ready,
    "gone": gone,
    "person": a_person,
    "person by replica": a_person_by_replica,
}
PAIRS = list(permutations(["agent", "AKS", "NotReady", "gone", "person"], 2))


async def recovers_once(world: World, node: str) -> None:
    """Wait for one recovery, and check that no other follows."""
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=1500)
    await world.pass_time(300)
    assert (world.entry(0).incarnation, world.entry(1).incarnation) == (1, 0)
    assert len(world.documents.told("Preempted")) == 1
    assert world.entry(0).preemptions == 1
    assert world.entry(0).restarts == 0
    assert len(world.cloud.created) == 3
    assert node not in world.cloud.instances


@pytest.mark.parametrize("source", list(SOURCES))
async def test_each_source_leads_to_one_recovery(world: World, source: str) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    await SOURCES[source](world, node)
    await recovers_once(world, node)


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_two_sources_lead_to_one_recovery(world: World, first: str, second: str) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    await SOURCES[first](world, node)
    await world.pass_time(5)
    await SOURCES[second](world, node)
    await recovers_once(world, node)


async def test_all_sources_at_once_lead_to_one_recovery(world: World) -> None:
    world.bridge.twice = True
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    for source in SOURCES.values():
        await source(world, node)
    await recovers_once(world, node)


async def test_a_mark_on_a_node_that_was_there_before_leads_to_one_recovery(world: World) -> None:
    world.cluster.add_node("gpu-a")
    world.cluster.add_node("gpu-b")
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    world.cluster.mark(node, "VMEventScheduled")
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    await world.pass_time(300)
    assert world.entry(0).incarnation == 1
    assert world.node_of(0) in {"gpu-a", "gpu-b"} - {node}
    assert world.cloud.created == []


async def test_a_notice_ends_the_back_off_of_a_replica(world: World) -> None:
    world.down.add("create_replica")
    await world.submit(replicas=1)
    await world.until(lambda: len(world.documents.told("StartingFailed")) >= 12, within=4000)  # back-offs of minutes
    world.down.clear()
    world.machines.notice(world.cloud.created[0], 30)
    await world.until(lambda: world.documents.told("Preempted"), within=40)


async def test_a_notice_ends_the_back_off_of_a_vm(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.down.add("check_owner")
    await world.pass_time(1200)
    world.down.clear()
    vm = world.env.client.get_workflow_handle(names.vm_workflow_id(world.fleet.keys[0]))
    await vm.signal("preemption_notice", PreemptionNotice(source=PREEMPTED))
    await world.until(lambda: world.documents.told("Preempted"), within=5)


async def test_a_notice_for_what_can_be_no_node_is_ignored(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for node in HOSTILE:
        await world.notice_by_hand(node=node)
    await world.pass_time(300)
    assert (world.entry(0).incarnation, world.documents.told("Preempted")) == (0, [])


async def test_the_first_thing_asked_for_after_a_notice_is_the_checkpoint(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(120)
    began, node = world.clock.now, world.notice(0)
    await world.until(lambda: world.checkpoints.history)
    events = world.env.find(WORKFLOW_ID).history.events
    asked = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        and event.event_time.ToDatetime(tzinfo=UTC) >= began
    ]
    assert asked[0] == "create_checkpoint"
    told = [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        and event.event_time.ToDatetime(tzinfo=UTC) == began
    ]
    assert told == ["preemption_notice"]
    assert node not in {world.node_of(1)}


async def test_a_notice_that_comes_without_its_node_is_as_good(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.signal("preemption_notice", PreemptionNotice(node=world.node_of(0), source=names.TAINT_PREEMPTED))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
