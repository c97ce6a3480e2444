"""Machines are lost at every moment of their lives."""

from itertools import pairwise

import pytest

from api import errors, names
from api.messages import ReplicaChanged
from api.timings import Timings
from api.views import ReplicaView
from tests.workflows.documents import NAME, vm_spec
from tests.workflows.world import World


async def test_a_machine_lost_without_a_notice_is_found_and_replaced(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.entry(0).preemptions == 1


async def test_a_lost_machine_that_is_shown_as_running_for_a_minute_is_found(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.cloud.lingering = 120
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1, within=400)
    await world.running(2)


async def test_a_machine_lost_without_a_notice_and_without_a_word_is_found_in_time(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.bridge.lost = {"node_changed", "preemption_notice", "replica_changed"}
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).preemptions == 1, within=1200)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)


async def test_a_notice_whose_machine_goes_on_ends_with_the_machine_replaced(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    await world.notice_by_hand(node=node)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    await world.until(lambda: node not in world.cloud.instances)


async def test_a_notice_by_replica_is_a_notice_for_its_node(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.notice_by_hand(replica=1)
    await world.until(lambda: world.entry(1).incarnation == 1 and world.active == 2)
    assert world.entry(0).incarnation == 0


async def test_the_second_notice_changes_nothing(world: World) -> None:
    world.bridge.twice = True
    await world.submit(replicas=2)
    await world.running(2)
    node = world.notice(0)
    await world.notice_by_hand(node=node)
    await world.notice_by_hand(node=node)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.entry(0).preemptions == 1
    assert len(world.cloud.created) == 3


@pytest.mark.parametrize("stage", ["Creating", "Booting", "Joining", "Registering"])
async def test_a_machine_lost_before_it_is_ready_is_replaced(world: World, stage: str) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.stage() == stage)
    world.cloud.power_off(world.cloud.created[0])
    await world.running(1)
    assert len(world.cloud.created) == 2
    assert len(world.cloud.instances) == 1
    assert world.entry(0).restarts == 0


async def test_a_notice_while_joining_is_answered_by_another_machine(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.cluster.nodes)
    name = world.cloud.created[0]
    world.machines.notice(name, 30)
    await world.running(1)
    assert world.node_of(0) == world.cloud.created[1]
    await world.until(lambda: name in world.cluster.nodes_gone)


async def test_a_persons_notice_by_replica_reaches_a_machine_that_still_boots(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.stage() == "Booting")
    await world.notice_by_hand(replica=0)
    await world.running(1)
    assert world.node_of(0) == world.cloud.created[1]
    await world.until(lambda: list(world.cloud.instances) == [world.cloud.created[1]])


async def test_a_notice_while_starting_begins_again_elsewhere(world: World) -> None:
    world.cluster.slow_start = 30
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Starting" and world.cluster.job_of(0).pod)
    world.notice(0, seconds=10)
    await world.running(1)
    assert world.node_of(0) == world.cloud.created[1]


async def test_a_notice_while_restoring_begins_again_elsewhere(world: World) -> None:
    world.checkpoints.dump_seconds = 200
    await world.submit(replicas=2)
    await world.running(2)
    world.notice(0)
    await world.until(lambda: world.phase(0) == "Restoring", within=180)
    world.machines.notice(world.cloud.created[2], 10)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.node_of(0) == world.cloud.created[3]
    assert len(world.checkpoints.history) == 1


async def test_a_notice_while_judging_is_a_preemption(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.phase(0) == "Judging")
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.entry(0).restarts == 0
    assert world.entry(0).preemptions == 1


async def test_a_stockout_rests_and_goes_on_when_there_is_capacity(world: World) -> None:
    world.cloud.stockouts = 3
    await world.submit(replicas=1)
    await world.until(lambda: (c := world.documents.condition("CapacityAvailable")) and c.status == "False")
    assert world.documents.condition("CapacityAvailable").reason == errors.NO_CAPACITY
    await world.running(1, within=3600)
    assert world.documents.condition("CapacityAvailable").status == "True"
    tries = [call.at for call in world.of("create_vm")]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(tries)]
    assert [round(gap / 180) for gap in gaps] == [1, 2, 4]
    assert len({call.request.vm.name for call in world.of("create_vm")}) == 4


@pytest.mark.parametrize("kind", [errors.NO_CAPACITY, errors.QUOTA, errors.PERMISSION])
async def test_a_creation_refused_at_once_is_told_and_tried_again(world: World, kind: str) -> None:
    world.cloud.refuse_creates = [kind]
    await world.submit(replicas=1)
    await world.until(lambda: (c := world.documents.condition("CapacityAvailable")) and c.reason == kind)
    await world.running(1)


async def test_a_name_that_is_somebody_elses_is_left_alone(world: World) -> None:
    key = names.vm_key(world.documents.start.job_id, 0, 1)
    theirs = world.cloud.boot(names.vm_name(key, 1), "us-central1-a", {"owner": "somebody"})
    await world.submit(replicas=1)
    await world.running(1)
    assert world.node_of(0) == names.vm_name(key, 2)
    assert world.cloud.instances[theirs.name] is theirs
    await world.delete()
    await world.ended()
    assert world.cloud.instances == {theirs.name: theirs}


async def test_a_join_that_fails_twice_is_tried_a_third_time_on_the_same_machine(world: World) -> None:
    world.machines.failing_joins = 2
    await world.submit(replicas=1)
    await world.running(1)
    assert len(world.cloud.created) == 1


async def test_a_machine_that_never_joins_is_replaced(world: World) -> None:
    world.machines.failing_joins = 3
    await world.submit(replicas=1)
    await world.running(1)
    assert len(world.cloud.created) == 2
    await world.until(lambda: len(world.cloud.instances) == 1)


async def test_a_node_that_never_gets_ready_is_replaced(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.cloud.created)
    world.machines.never_ready.add(world.cloud.created[0])
    await world.running(1, within=1800)
    assert world.node_of(0) == world.cloud.created[1]


async def test_machines_that_join_in_vain_are_bought_ever_more_rarely_and_people_read_why(world: World) -> None:
    world.machines.failing_joins = 10**6
    await world.submit(replicas=1)
    await world.pass_time(24 * 3600)
    assert len(world.cloud.created) <= 28  # one an hour in the end
    condition = world.documents.condition("CapacityAvailable")
    assert (condition.status, condition.reason) == ("False", "JoinFailed")
    assert "the next VM is bought at " in (world.entry(0).message or "")
    world.machines.failing_joins = 0
    await world.running(1, within=3700)
    assert world.documents.condition("CapacityAvailable").status == "True"


async def test_a_gpu_of_the_cluster_that_becomes_free_ends_the_search_for_a_vm(world: World) -> None:
    world.machines.failing_joins = 10**6
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("CapacityAvailable"), within=1800)
    world.cluster.add_node("own-1")
    await world.running(1, within=4000)
    await world.pass_time(5)
    condition = world.documents.condition("CapacityAvailable")
    assert (condition.status, condition.reason) == ("True", "FreeGPU")


async def test_who_corrects_what_is_bought_does_not_wait_for_the_next(world: World) -> None:
    world.machines.failing_joins = 10**6
    await world.submit(replicas=1)
    await world.pass_time(6 * 3600)
    world.machines.failing_joins = 0
    world.documents.vm_spec = vm_spec(machineType="n1-standard-8")
    world.documents.edit()
    await world.running(1, within=120)
    assert world.cloud.asked[-1].machine_type == "n1-standard-8"


async def test_a_node_that_stays_notready_while_its_machine_runs_is_replaced_after_its_grace(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    world.cluster.set_ready(node, False)
    await world.pass_time(500)
    assert world.entry(0).incarnation == 0
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    await world.until(lambda: node not in world.cloud.instances)


async def test_a_node_that_is_notready_for_a_while_costs_nothing(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    world.cluster.set_ready(node, False)
    await world.pass_time(300)
    world.cluster.set_ready(node, True)
    await world.pass_time(900)
    assert world.training() == [(0, 0), (1, 0)]


async def test_a_foreign_node_that_stays_notready_is_left_after_its_grace(world: World) -> None:
    world.cluster.add_node("gpu-a")
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.machine_died("gpu-a")
    await world.pass_time(500)
    assert world.entry(0).incarnation == 0
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert world.node_of(0) in world.cloud.created


async def test_a_node_object_deleted_by_somebody_is_a_loss(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    node = world.node_of(0)
    world.cluster.remove_node(node)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    await world.until(lambda: node not in world.cloud.instances)


async def test_another_handlers_mark_is_a_notice(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.cluster.mark(world.node_of(1), "cloud.google.com/impending-node-termination")
    await world.until(lambda: world.entry(1).incarnation == 1 and world.active == 2)


async def test_a_vm_whose_job_is_gone_tears_itself_down(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.handle.terminate("by a person with the CLI")
    await world.until(lambda: not world.cloud.instances and not world.cluster.nodes, within=1800)


async def test_a_vm_whose_jobs_workflow_is_closed_but_not_its_job_looks_from_time_to_time(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.fleet.living.add(NAME)
    await world.handle.terminate("by a person with the CLI")
    await world.pass_time(3600)
    assert 6 <= len(world.of("look_at_vm")) <= 12
    world.fleet.living.clear()
    await world.until(lambda: not world.cloud.instances, within=1200)


async def test_a_deletion_refused_for_a_while_is_asked_for_again(world: World) -> None:
    world.cloud.refuse_deletes = 12
    await world.submit(replicas=1)
    await world.running(1)
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_a_vm_is_let_go_of_while_it_is_created(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.cloud.created)
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_a_vm_that_its_job_does_not_know_is_let_go_of(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    known = world.of("ensure_vm")[0].request
    await world.fleet.ensure_vm(known.model_copy(update={"key": names.vm_key(known.job_id, 5, 1), "replica": 5}))
    await world.until(lambda: len(world.fleet.keys) == 2)
    await world.pass_time(120)
    assert await world.fleet.open_vms() == [known.key]
    assert len(world.cloud.instances) == 1


async def test_machines_join_and_go_though_nobody_can_say_whose_they_are(world: World) -> None:
    world.documents.timings = Timings(owner_check=5, preempted_poll=0)
    world.machines.failing_joins = 3
    world.down = {"check_owner"}
    await world.submit(replicas=1)
    await world.running(1)
    assert list(world.cloud.instances) == world.cloud.created[1:2]


async def test_a_pod_that_is_said_to_be_gone_is_looked_for_before_that_is_believed(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    start = world.documents.start
    nothing = ReplicaView(job_name=f"{start.name}-{start.job_id}-r0-i0")
    message = ReplicaChanged(job_id=start.job_id, replica=0, incarnation=0, version=10**9, view=nothing)
    await world.signal("replica_changed", message)
    await world.pass_time(600)
    assert world.training() == [(0, 0)]
    assert (world.entry(0).preemptions, world.active) == (0, 1)
