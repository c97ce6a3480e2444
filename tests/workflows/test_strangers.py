"""GPU pods of other teams beside a job that buys: a bought GPU is its buyer's, and nobody pays for a stranger's."""

from datetime import timedelta

import pytest

from api.common import Condition
from tests.workflows.world import World

ROOM_SECONDS = 600


async def test_a_gpu_pod_of_another_team_does_not_get_what_was_bought(world: World) -> None:
    world.cluster.stranger = "notebook"
    await world.submit(replicas=1)
    await world.running(1)
    assert world.cluster.nodes[world.node_of(0)].strangers == []
    assert len(world.cloud.created) == 1


async def test_an_uncordoned_node_is_cordoned_again(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    world.cluster.cordon(node, False)
    await world.until(lambda: world.cluster.nodes[node].cordoned, within=10)


async def test_who_uncordons_it_at_once_is_not_raced(world: World) -> None:
    """Another controller uncordons it, or a worker of the release before, by whose answer the Node is still open."""
    await world.submit(replicas=1)
    await world.running(1)
    node, before = world.node_of(0), len(world.of("prepare_node"))
    world.cluster.uncordons_at_once = True
    world.cluster.cordon(node, False)
    await world.pass_time(60)
    assert 3 <= len(world.of("prepare_node")) - before <= 7
    world.cluster.uncordons_at_once = False
    await world.until(lambda: world.cluster.nodes[node].cordoned, within=15)


async def test_a_replica_that_starts_again_finds_its_gpu_free(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.stranger = "notebook"
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    world.cluster.let_stranger_in()
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert len(world.cloud.created) == 1


@pytest.fixture(params=["extended resource", "CDI device"])
async def taken(world: World, request: pytest.FixtureRequest) -> World:
    """Buy a VM, on which a pod that tolerates everything arrives first."""
    world.cluster.cdi = request.param == "CDI device"
    world.cluster.stranger, world.cluster.stranger_tolerates = "notebook", "Everything"
    await world.submit(replicas=1)
    await world.until(lambda: has_no_room(world), within=180)
    return world


def has_no_room(world: World) -> bool:
    return capacity(world).reason == "RoomTaken"


def capacity(world: World) -> Condition:
    """Return the condition CapacityAvailable, also before there is one."""
    found = [each for each in world.documents.status.conditions if each.type == "CapacityAvailable"]
    return found[0] if found else Condition(type="CapacityAvailable", status="Unknown", reason="None")


async def test_who_has_the_room_is_told_by_name_with_the_remedy(taken: World) -> None:
    condition = capacity(taken)
    assert condition.status == "False"
    [node] = taken.cloud.created
    assert f"other-team/notebook on {node}" in condition.message
    assert "let them tolerate only nvidia.com/gpu" in condition.message
    assert "the VM is released at " in condition.message
    assert len(taken.documents.told("RoomTaken")) == 1


async def test_a_stranger_that_leaves_in_time_lets_the_replica_start(taken: World) -> None:
    await taken.pass_time(ROOM_SECONDS / 2)
    taken.cluster.stranger_leaves()
    await taken.running(1, within=ROOM_SECONDS / 2)
    assert len(taken.cloud.created) == 1
    assert (capacity(taken).status, capacity(taken).reason) == ("True", "Provisioned")


async def test_the_vm_of_a_stranger_that_stays_is_given_up(taken: World) -> None:
    [node] = taken.cloud.created
    await taken.until(lambda: node not in taken.cloud.instances, within=ROOM_SECONDS + 120)
    assert taken.cloud.instances == {}, "the next is not bought at once"
    assert has_no_room(taken)
    assert "the next VM is bought at " in capacity(taken).message
    assert (taken.entry(0).preemptions, taken.entry(0).restarts) == (0, 0)


async def test_vms_are_bought_ever_more_rarely_while_strangers_take_them(taken: World) -> None:
    await taken.pass_time(24 * 3600)
    assert 10 <= len(taken.cloud.created) <= 28  # one an hour in the end
    assert has_no_room(taken)
    taken.cluster.stranger_leaves()
    await taken.running(1, within=3700)
    assert capacity(taken).status == "True"


async def test_a_vm_that_is_too_small_is_given_up_as_well(world: World) -> None:
    world.cluster.too_big = True
    await world.submit(replicas=1)
    await world.until(lambda: capacity(world).reason == "NoRoom", within=180)
    assert "0 nodes are available" in capacity(world).message
    assert "gcp.machineType" in capacity(world).message
    await world.until(lambda: not world.cloud.instances, within=ROOM_SECONDS + 120)


async def test_a_vm_without_room_is_given_up_though_nobody_can_look_at_who_has_it(world: World) -> None:
    world.cluster.too_big = True
    world.down.add("find_strangers")
    await world.submit(replicas=1)
    await world.until(lambda: capacity(world).reason == "NoRoom", within=180)
    assert "find_strangers is down" in capacity(world).message
    await world.until(lambda: not world.cloud.instances, within=ROOM_SECONDS + 120)
    assert len(world.cloud.created) == 1


async def test_a_machine_is_no_loss_for_the_market_if_a_stranger_had_it(taken: World) -> None:
    [node] = taken.cloud.created
    await taken.until(lambda: node not in taken.cloud.instances, within=ROOM_SECONDS + 120)
    await taken.pass_time(60)
    ended = [call.request.news for call in taken.of("tell_market") if call.request.news.kind == "Ended"]
    assert [news.lost for news in ended] == [False]


async def test_a_sibling_trains_on_while_one_has_no_room(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.stranger, world.cluster.stranger_tolerates = "notebook", "Everything"
    world.documents.edit(replicas=2)
    await world.until(lambda: has_no_room(world), within=300)
    before = world.clock.now
    await world.pass_time(2 * ROOM_SECONDS)
    assert world.training() == [(0, 0)]
    assert world.clock.now - before >= timedelta(seconds=ROOM_SECONDS)
