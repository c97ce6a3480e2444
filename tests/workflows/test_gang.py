"""A gang: several pods on as many machines, bought, saved, replaced and judged as one replica."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.documents import vm_spec
from tests.workflows.world import World

STORAGE = {"type": "gcs", "bucket": "b", "pathPrefix": "team/llm/"}
MEMBERS = 3


async def submitted(world: World, members: int = MEMBERS, **spec: Any) -> None:
    template = {"spec": {"template": {"spec": {"containers": [{"name": "train", "image": "train:1"}]}}}}
    checkpoint = {"mode": "Application", "checkpointStorage": STORAGE}
    gang = {"minSize": members, "maxSize": members, **spec.pop("sizes", {})}
    await world.submit(replicas=1, checkpoint=checkpoint, jobTemplate=template, gang=gang, **spec)


async def training(world: World, **spec: Any) -> list[str]:
    """Let a gang train, and return its nodes by member."""
    await submitted(world, **spec)
    await world.running(1)
    await world.pass_time(120)
    return world.nodes_of(0)


async def again(world: World, incarnation: int = 1, within: float = 900) -> list[str]:
    await world.until(lambda: world.entry(0).incarnation == incarnation and world.phase(0) == "Running", within)
    return world.nodes_of(0)


def created(world: World) -> list[str]:
    return [call.request.candidate.zone for call in world.of("create_vm")]


async def test_all_its_machines_are_bought_in_one_zone_and_it_starts_once_all_are_ready(world: World) -> None:
    nodes = await training(world)
    assert len(set(nodes)) == MEMBERS
    assert len(set(created(world))) == 1
    first, *others = [call.at for call in world.of("create_vm")]
    assert len(set(others)) == 1, "once the first one exists, all others are bought at once"
    assert others[0] > first
    [create] = world.of("create_replica")
    assert (create.request.members, set(create.request.nodes)) == (MEMBERS, set(nodes))
    entry = world.entry(0)
    assert [each.node_name for each in entry.members or []] == nodes
    assert {each.phase for each in entry.members or []} == {"Running"}


@pytest.mark.parametrize("member", [0, 2])
async def test_a_notice_to_one_member_saves_all_and_replaces_one_machine(world: World, member: int) -> None:
    before = await training(world)
    lost = world.notice(0, member=member)
    after = await again(world)
    assert set(before) - set(after) == {lost}
    assert len(set(after) - set(before)) == 1
    restore = world.job(0, 1).request.restore
    assert restore.path == world.bucket.saved[-1].path
    assert restore.progress >= 120, "no step is lost"
    assert (world.entry(0).preemptions, world.entry(0).restarts) == (1, 0)
    zones = {world.cluster.nodes[node].zone for node in after}
    assert len(zones) == 1
    assert world.documents.told("Preempted")[0].startswith(f"replica 0 on {lost}: "), "the others are not named"


async def test_two_machines_that_go_together_are_one_loss(world: World) -> None:
    before = await training(world)
    lost = {world.notice(0, member=0), world.notice(0, member=1)}
    after = await again(world)
    assert set(before) & set(after) == set(before) - lost
    assert world.entry(0).preemptions == 1


async def test_a_second_machine_that_goes_during_the_recovery_is_replaced_too(world: World) -> None:
    before = await training(world)
    world.notice(0, member=0)
    await world.until(lambda: world.phase(0) == "Joining")
    kept = before[1]
    world.machines.notice(kept, 30)
    after = await again(world)
    assert set(before) & set(after) == {before[2]}


async def test_a_silent_machine_ends_the_wait_of_the_others(world: World) -> None:
    world.cluster.gangs.fails_after = None
    before = await training(world)
    world.bucket.save(world.job(0, 0))
    await world.pass_time(60)
    died_at = world.clock.now
    world.cluster.machine_died(before[1])
    await world.until(lambda: world.of("stop_replica"), 90, "the others to be stopped")
    stop = world.of("stop_replica")[0]
    assert (stop.at - died_at).total_seconds() <= 80
    assert stop.request.grace == 10, "they hang, and can save nothing"
    after = await again(world)
    assert set(before) - set(after) == {before[1]}
    assert world.job(0, 1).request.restore.path == world.bucket.saved[0].path


async def test_a_vm_that_is_gone_ends_the_wait_of_the_others(world: World) -> None:
    world.cluster.gangs.fails_after = None
    before = await training(world)
    world.bucket.save(world.job(0, 0))
    world.cloud.power_off(before[2])
    after = await again(world)
    assert set(before) - set(after) == {before[2]}
    assert world.entry(0).restarts == 0


async def test_one_member_that_fails_is_one_failure_of_all(world: World) -> None:
    before = await training(world, maxRestarts=2)
    world.cluster.end_pod(world.cluster.job_of(0), 1, member=1)
    after = await again(world)
    assert set(after) == set(before), "all machines stay"
    assert (world.entry(0).restarts, world.entry(0).preemptions) == (1, 0)


async def test_a_machine_on_which_the_gang_fails_again_is_left_alone(world: World) -> None:
    before = await training(world, maxRestarts=5)
    bad = before[1]
    for incarnation in (1, 2):
        job = world.cluster.job_of(0)
        member = next(number for number, pod in job.pods.items() if pod.node == bad)
        world.cluster.end_pod(job, 1, member=member)
        after = await again(world, incarnation, within=1800)
    assert bad not in after
    assert len(set(before) & set(after)) == MEMBERS - 1


async def test_it_succeeds_once_every_member_has(world: World) -> None:
    await training(world)
    job = world.cluster.job_of(0)
    world.cluster.gangs.fails_after = None
    world.cluster.end_pod(job, 0, member=0)
    world.cluster.end_pod(job, 0, member=1)
    await world.pass_time(100)
    assert world.phase(0) == "Running"
    world.cluster.end_pod(job, 0, member=2)
    assert await world.ended() == "Completed"
    assert world.cloud.instances == {}


async def test_members_that_hang_after_the_others_have_succeeded_are_one_failure(world: World) -> None:
    await training(world)
    world.cluster.gangs.fails_after = None
    world.cluster.end_pod(world.cluster.job_of(0), 0, member=0)
    await again(world, within=1200)
    assert world.entry(0).restarts == 1


async def test_a_zone_that_cannot_hold_all_of_it_is_left_for_another(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=["us-central1-b"])
    world.cloud.limits["us-central1-a"] = 2
    await submitted(world)
    await world.running(1, within=3600)
    zones = {world.cluster.nodes[node].zone for node in world.nodes_of(0)}
    assert zones == {"us-central1-b"}
    assert world.documents.told("GangIncomplete")
    assert {instance.zone for instance in world.cloud.instances.values()} == zones, "nothing else is kept"


async def test_free_gpus_are_taken_for_all_or_none(world: World) -> None:
    for number in range(2):
        world.cluster.add_node(f"free-{number}")
    nodes = await training(world)
    assert not {node for node in nodes if node.startswith("free")}


async def test_a_gang_on_free_gpus_that_loses_one_takes_another(world: World) -> None:
    for number in range(4):
        world.cluster.add_node(f"free-{number}", zone="a")
    before = await training(world)
    assert all(node.startswith("free") for node in before)
    world.cluster.mark(before[0])
    after = await again(world)
    assert set(before) - set(after) == {before[0]}
    assert world.cloud.instances == {}


async def test_suspended_it_saves_itself_and_resumed_it_goes_on(world: World) -> None:
    await training(world)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    assert world.cloud.instances == {}
    await world.signal("resume")
    after = await again(world)
    assert len(set(after)) == MEMBERS
    assert world.job(0, 1).request.restore.progress >= 120


async def test_the_progress_of_all_members_is_in_the_status(world: World) -> None:
    await training(world)
    await world.pass_time(600)
    seen = [member.progress for member in world.entry(0).members or []]
    assert len(set(seen)) == 1
    assert (seen[0] or 0) > 100


async def test_a_member_that_falls_behind_while_others_go_on_is_named(world: World) -> None:
    nodes = await training(world, stallTimeout="40m")
    await world.pass_time(900)
    world.cluster.gangs.reported[2] = 700
    await world.until(lambda: progressing(world).startswith(f"False: member 2 on {nodes[2]} of replica 0"), within=3600)
    assert world.entry(0).incarnation == 0, "that alone restarts nothing"
    world.cluster.gangs.reported.clear()
    await world.until(lambda: progressing(world).startswith("True"), within=900)


async def test_a_stall_names_the_member_that_is_furthest_behind(world: World) -> None:
    nodes = await training(world, stallTimeout="40m")
    await world.pass_time(900)
    world.cluster.gangs.reported[1] = 5
    world.cluster.hang(world.job(0, 0))
    await world.until(lambda: f"(member 1 on {nodes[1]} only 5)" in progressing(world), within=3600)
    await again(world, 1, within=3600)
    assert world.entry(0).restarts == 1


def outputs_saved(world: World) -> str:
    condition = world.documents.condition("OutputsSaved")
    return f"{condition.status} {condition.reason}: {condition.message}" if condition else ""


async def test_the_outputs_of_all_members_are_uploaded_before_their_machines_go(world: World) -> None:
    nodes = await training(world, outputs=["/out"])
    job = world.cluster.job_of(0)
    for member in job.members:
        world.cluster.end_pod(job, 0, member=member)
    assert await world.ended() == "Completed"
    asked = {call.member: call.vm.name for call in world.bucket.outputs}
    assert asked == dict(enumerate(nodes))
    assert outputs_saved(world) == "True Uploaded: 9 files of replica 0 (21 bytes) in b/team/outputs/r0"


async def test_outputs_of_a_machine_that_is_gone_cost_only_its_own(world: World) -> None:
    nodes = await training(world, outputs=["/out"], maxRestarts=0)
    world.bucket.down = True
    world.cluster.end_pod(world.cluster.job_of(0), 1, member=0)
    await world.until(lambda: len(world.bucket.outputs) >= MEMBERS)
    world.cloud.power_off(nodes[1])
    await world.pass_time(180)  # by then its workflow knows it
    world.bucket.down = False
    assert await world.ended() == "Failed"
    assert outputs_saved(world).startswith("False ")
    assert "members 1: " in outputs_saved(world)
    assert "6 files of the others are uploaded" in outputs_saved(world)


def progressing(world: World) -> str:
    condition = world.documents.condition("Progressing")
    return f"{condition.status}: {condition.message}" if condition else ""


async def test_nothing_is_left_of_a_deleted_gang(world: World) -> None:
    await training(world)
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_a_vm_of_a_gang_that_does_not_join_is_replaced_alone(world: World) -> None:
    await submitted(world)
    await world.until(lambda: len(world.cloud.instances) == MEMBERS)
    names = list(world.cloud.instances)
    world.cloud.power_off(names[2])
    await world.running(1)
    assert set(world.nodes_of(0)) >= set(names[:2])


async def test_near_to_each_other_its_machines_have_a_policy_that_goes_with_the_last(world: World) -> None:
    before = await training(world, sizes={"placement": "Compact"})
    [(_, policy)] = world.cloud.placements
    assert {call.request.vm.placement for call in world.of("create_vm")} == {policy}
    assert len({world.cluster.nodes[node].zone for node in before}) == 1
    world.notice(0, member=1)
    await again(world)
    assert world.of("create_vm")[-1].request.vm.placement == policy, "the replacement is near, too"
    assert len(world.cloud.placements) == 1
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_a_region_without_capacity_keeps_no_policy(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=["us-east1-b"])
    world.cloud.exhausted.add("us-central1-a")
    await training(world, sizes={"placement": "Compact"})
    assert [region for region, _ in world.cloud.placements] == ["us-east1"]
