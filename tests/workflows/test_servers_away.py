"""A server that others need is unreachable for ten minutes: trainings continue, conditions say so, all catches up."""

from tests.workflows.world import World

TEN_MINUTES = 600


async def test_a_registry_that_is_down_costs_checkpoints_and_nothing_else(world: World) -> None:
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "3m"})
    await world.running(2)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    assert world.documents.condition("CheckpointsSucceed") is None
    world.checkpoints.registry_down = True
    world.checkpoints.plans = ["fail"] * 9  # the operator fails each that it cannot push
    await world.until(lambda: world.documents.condition("CheckpointsSucceed"))
    began = world.documents.condition("CheckpointsSucceed").last_transition_time
    await world.pass_time(TEN_MINUTES)
    condition = world.documents.condition("CheckpointsSucceed")
    assert (condition.status, condition.reason) == ("False", "CheckpointFailed")
    assert condition.last_transition_time == began
    assert world.training() == [(0, 0), (1, 0)]
    world.checkpoints.registry_down = False
    world.checkpoints.plans.clear()
    await world.until(lambda: world.documents.condition("CheckpointsSucceed").status == "True")
    assert world.training() == [(0, 0), (1, 0)]
    assert len(world.cloud.created) == 2


async def test_a_cloud_that_does_not_answer_is_told_of_and_the_survivor_trains_on(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.down = {"create_vm", "observe_create", "observe_vm", "delete_vm"}
    world.notice(0)
    await world.until(lambda: (c := world.documents.condition("CapacityAvailable")) and c.status == "False")
    await world.pass_time(TEN_MINUTES)
    condition = world.documents.condition("CapacityAvailable")
    assert (condition.status, condition.reason) == ("False", "Transient")
    assert "is down" in condition.message
    assert (1, 0) in world.training()
    world.down = set()
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    assert world.documents.condition("CapacityAvailable").status == "True"
    assert len(world.cloud.created) == 3
