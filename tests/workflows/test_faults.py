"""Activities fail and workers go away. What was decided is still carried out, and once."""

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities import signatures as act
from api import names
from tests.workflows.documents import OFTEN, vm_spec
from tests.workflows.world import ELSEWHERE, RUNNER, WORKFLOW_ID, Fault, World
from workflows.job.workflow import SpotInstanceJob
from workflows.vm.workflow import SpotVM

# Those of requests, and of what takes longer or fails in other stories, which tests/chaos/test_crashes.py plays.
NEVER_HERE = {"patch_spec", "check_owner", "delete_checkpoint", "observe_replica", "read_progress"}
# The activities of a story of two replicas, a preemption and a deletion, in which nobody requests anything.
NAMES = sorted({signature.name for signature in act.ALL} - ELSEWHERE - NEVER_HERE)
GROUPS = [NAMES[first::5] for first in range(5)]


async def story(world: World) -> None:
    """Play two replicas, a lost machine and the end, and check what must be true whatever failed on the way."""
    world.checkpoints.dump_seconds = 71  # longer than a silent operator is trusted
    world.documents.vm_spec = vm_spec(zones=["us-central1-b"])  # two zones, so that prices are compared
    world.documents.timings = OFTEN.model_copy(update={"preempted_poll": 60})
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "3m"})
    await world.running(2, within=1200)
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=1200)
    await world.pass_time(647)  # the VMs look for their owner
    world.notice(0)
    await world.until(lambda: (world.entry(0).incarnation or 0) >= 1 and world.active == 2, within=1800)
    assert world.entry(0).restarts == 0
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()


@pytest.mark.parametrize("names", GROUPS, ids=lambda group: f"{group[0]}...")
async def test_failures_before_and_after_an_activitys_effect_cost_time_alone(world: World, names: list[str]) -> None:
    """The first call fails before its effect, the second after it, and so do the sixth and seventh."""
    world.faults = [Fault(name, nth=nth, after=after) for name in names for nth in (1, 5) for after in (False, True)]
    await story(world)
    assert [fault.name for fault in world.faults if not fault.seen] == []


@pytest.mark.parametrize("name", ["find_capacity", "ensure_vm", "create_vm", "create_replica", "start_join"])
async def test_an_outage_is_waited_for(world: World, name: str) -> None:
    world.down.add(name)
    await world.submit(replicas=1)
    await world.pass_time(240)
    assert world.training() == []
    world.down.clear()
    await world.running(1)
    assert len(world.cloud.created) == 1


async def test_an_api_server_that_is_away_for_minutes_costs_nothing(world: World) -> None:
    """Everything that asks Kubernetes fails. The trainings continue, and so does the job afterwards."""
    kubernetes = {signature.name for signature in act.ALL} - {"create_vm", "observe_create", "observe_vm", "delete_vm"}
    await world.submit(replicas=2)
    await world.running(2)
    made = len(world.cloud.created)
    world.down = kubernetes
    await world.pass_time(900)
    world.down = set()
    await world.pass_time(400)
    assert world.training() == [(0, 0), (1, 0)]
    assert world.active == 2
    assert len(world.cloud.created) == made


async def test_a_checkpoint_outlives_an_api_server_that_is_away(world: World) -> None:
    world.checkpoints.dump_seconds = 90
    await world.submit(replicas=1)
    await world.running(1)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.checkpoints.history)
    world.bridge.lost = {"checkpoint_changed"}
    world.down = {"observe_checkpoint"}
    await world.pass_time(120)
    world.down = set()
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    assert world.documents.told("CheckpointFailed") == []


async def test_every_signal_lost_costs_time_and_not_correctness(world: World) -> None:
    world.cluster.steps = 2517
    world.bridge.lost = {"replica_changed", "node_changed", "checkpoint_changed"}
    await world.submit(replicas=2)
    await world.running(2, within=1800)
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=1800)
    world.notice(0)
    await world.until(lambda: (world.entry(0).incarnation or 0) >= 1 and world.active == 2, within=3600)
    assert await world.ended(within=5400) == "Completed"


async def test_signals_told_twice_change_nothing(world: World) -> None:
    world.bridge.twice = True
    await story(world)
    assert len(world.cloud.created) == 3


async def test_a_worker_that_forgets_everything_between_two_tasks(idle_world: World) -> None:
    """Each workflow task replays the whole history, so anything that is not deterministic fails here."""
    world = idle_world
    world.cluster.add_node("gpu-a")
    async with world.worker(max_cached_workflows=0):
        await world.submit(replicas=1)
        await world.running(1)
        await world.signal("checkpoint_now")
        await world.until(lambda: world.documents.told("CheckpointCompleted"))
        await world.delete()
        assert await world.ended() == "Deleted"
        await world.nothing_left()


async def test_the_whole_story_replays(world: World) -> None:
    """A worker that knows nothing replays the histories of all workflows."""
    await story(world)
    replayer = Replayer(
        workflows=[SpotInstanceJob, SpotVM], workflow_runner=RUNNER, data_converter=pydantic_data_converter
    )
    for workflow_id in [WORKFLOW_ID, *(names.vm_workflow_id(key) for key in world.fleet.keys)]:
        await replayer.replay_workflow(await world.env.client.get_workflow_handle(workflow_id).fetch_history())


async def test_another_worker_goes_on_in_the_middle_of_a_recovery(idle_world: World) -> None:
    world = idle_world
    world.cluster.add_node("gpu-a")
    async with world.worker(max_cached_workflows=0):
        await world.submit(replicas=1)
        await world.running(1)
        world.cluster.slow_start = 30
        world.cluster.add_node("gpu-b")
        world.cluster.mark("gpu-a")
        await world.until(lambda: (0, 1) in world.cluster.jobs)
    async with world.worker(max_cached_workflows=0):
        await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
        assert world.node_of(0) == "gpu-b"
        assert len(world.cluster.history) == 2
