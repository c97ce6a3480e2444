"""A job's plain life."""

from tests.workflows.world import World


async def test_two_replicas_on_bought_vms_train_to_completion(world: World) -> None:
    world.cluster.steps = 3000
    await world.submit(replicas=2)
    await world.running(2)
    assert len({world.node_of(0), world.node_of(1)}) == 2
    assert await world.ended() == "Completed"
    assert world.documents.condition("Completed").status == "True"
    await world.pass_time(60)
    assert world.cloud.instances == {}
