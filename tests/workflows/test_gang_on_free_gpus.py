"""A gang on free GPUs of the cluster: it goes on with fewer if one goes, and grows once one is free again."""

from __future__ import annotations

from api.gang import Gang
from api.timings import Timings
from tests.workflows.test_gang import again, training
from tests.workflows.world import World

TWO_TO_THREE = {"minSize": 2, "maxSize": 3}


async def small(world: World) -> list[str]:
    """Let a gang lose one of three free GPUs, and return the nodes on which it goes on."""
    for number in range(3):
        world.cluster.add_node(f"free-{number}", zone="a")
    before = await training(world, sizes=TWO_TO_THREE)
    world.cluster.mark(before[1])
    after = await again(world, 1)
    assert set(after) == {before[0], before[2]}
    return after


def looks(world: World) -> int:
    return len(world.of("find_capacity"))


async def test_it_grows_on_a_gpu_that_becomes_free(world: World) -> None:
    before = await small(world)
    assert "2 of 3 members: free GPUs" in (world.entry(0).message or "")
    world.cluster.add_node("free-3", zone="a")
    after = await again(world, 2, within=7200)
    assert set(after) == {*before, "free-3"}
    assert world.job(0, 2).request.restore.path == world.bucket.saved[-1].path, "it grows at a checkpoint"
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (1, 0)
    assert world.documents.told("GangLarger")
    assert world.cloud.instances == {}


async def test_if_another_is_free_at_once_it_starts_again_only_once(world: World) -> None:
    for number in range(4):
        world.cluster.add_node(f"free-{number}", zone="a")
    before = await training(world, sizes=TWO_TO_THREE)
    world.cluster.mark(before[1])
    after = await again(world, 1)
    assert len(after) == 3
    assert {before[0], before[2]} < set(after)


async def test_a_gpu_that_another_pod_takes_meanwhile_costs_it_no_other(world: World) -> None:
    before = await small(world)
    world.cluster.add_node("free-3", zone="a")
    world.cluster.snatched.add("free-3")
    await world.until(lambda: world.entry(0).incarnation >= 2, 7200)
    await again(world, 3)
    assert set(world.nodes_of(0)) == set(before)
    assert world.cloud.instances == {}
    await world.pass_time(6 * 3600)
    assert world.entry(0).incarnation <= 3 + 2 * 8, "it is tried ever more rarely"
    assert world.cloud.instances == {}


async def test_small_it_looks_once_an_hour_and_whole_it_does_not_look(world: World) -> None:
    world.documents.timings = Timings(preempted_poll=0)
    await small(world)
    await world.pass_time(4 * 3600)
    before = looks(world)
    await world.pass_time(4 * 3600)
    assert looks(world) - before in range(2, 6)
    world.cluster.add_node("free-3", zone="a")
    await again(world, 2, within=7200)
    before = looks(world)
    await world.pass_time(4 * 3600)
    assert looks(world) == before


async def test_an_edit_makes_it_larger_once_gpus_are_free(world: World) -> None:
    for number in range(2):
        world.cluster.add_node(f"free-{number}", zone="a")
    before = await training(world, members=2)
    world.documents.edit(gang=Gang(min_size=3, max_size=3))
    await world.pass_time(600)
    assert set(world.nodes_of(0)) == set(before)
    world.cluster.add_node("free-2", zone="a")
    assert len(await again(world, 1, within=7200)) == 3


async def test_a_gpu_that_is_taken_while_it_saves_itself_costs_it_no_other(world: World) -> None:
    for number in range(4):
        world.cluster.add_node(f"free-{number}", zone="a")
    before = await training(world, members=4, sizes={"minSize": 1})
    world.cluster.mark(before[1])
    world.cluster.snatched.add(before[2])
    after = await again(world, 2, within=1800)
    assert set(after) == {before[0], before[3]}
    assert world.cloud.instances == {}


async def test_one_that_is_taken_at_the_first_start_costs_it_no_other(world: World) -> None:
    for number in range(4):
        world.cluster.add_node(f"free-{number}", zone="a")
    world.cluster.snatched.add("free-1")
    nodes = await training(world)
    assert set(nodes) == {"free-0", "free-2", "free-3"}
    assert world.cloud.instances == {}
