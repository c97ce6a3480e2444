"""A process image continues only on a machine like its own."""

import pytest

from tests.workflows.documents import vm_spec
from tests.workflows.world import World
from workflows.policy.candidates import candidates_of


async def with_a_checkpoint(world: World, **spec: object) -> None:
    await world.submit(replicas=1, **spec)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))


async def lose(world: World) -> None:
    world.notice(0, seconds=3)
    await world.running(0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kernel": "6.12"}, "kernel 6.1 there, 6.12 here"),
        ({"driver": "580"}, "driver 570 there, 580 here"),
        ({"cpu": "Milan"}, "CPU Skylake there, Milan here"),
    ],
)
async def test_on_another_machine_the_job_holds_and_says_what_differs(
    world: World, changed: dict[str, str], told: str
) -> None:
    await with_a_checkpoint(world)
    world.machines.fingerprint |= changed
    await lose(world)
    await world.until(lambda: world.documents.condition("Restorable"))
    condition = world.documents.condition("Restorable")
    assert (condition.status, condition.reason) == ("False", "NoneFits")
    assert told in condition.message
    assert told in world.entry(0).message
    await world.pass_time(2 * 3600)
    assert world.training() == []
    assert len(world.cloud.created) <= 8  # its machine is released, and others are tried more and more rarely
    world.documents.edit(checkpoint={"on_unrestorable": "ColdStart"})
    await world.running(1)


async def test_a_person_may_have_it_begin_anew_there(world: World) -> None:
    await with_a_checkpoint(world)
    world.machines.fingerprint |= {"kernel": "6.12"}
    await lose(world)
    await world.until(lambda: world.documents.condition("Restorable"))
    world.documents.edit(checkpoint={"on_unrestorable": "ColdStart"})
    await world.running(1)
    assert world.cluster.training()[0].pod.base == 0
    assert "kernel 6.1 there" in world.documents.told("ColdStart")[0]
    assert world.documents.condition("Restorable").status == "True"


async def test_a_nearer_one_that_fits_goes_before_the_furthest(world: World) -> None:
    """One of two machines with an old image is replaced by a new one; then the other is lost."""
    await world.submit(replicas=2, checkpoint={"onUnrestorable": "ColdStart", "checkpointInterval": "2m"})
    await world.running(2)
    world.machines.fingerprint |= {"kernel": "6.12"}
    world.checkpoints.plans = ["fail"] * 2
    world.notice(1, seconds=3)  # nothing on record: it starts from the beginning, on the new kernel
    await world.until(lambda: world.entry(1).incarnation == 1 and world.active == 2)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))  # of replica 0, which has more progress
    world.cluster.mark(world.node_of(0))
    world.checkpoints.plans = ["fail"] * 2
    old = world.checkpoints.history[-1]
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active >= 1, within=1500)
    new = world.job(0, 1).request.restore
    assert new is None or old.tag not in new.label
    assert "kernel 6.1 there, 6.12 here" in str([world.documents.told("ColdStart"), world.entry(0).message])


async def test_a_machine_of_the_same_kind_is_restored_on(world: World) -> None:
    await with_a_checkpoint(world)
    await lose(world)
    await world.running(1)
    assert world.job(0, 1).request.restore.fingerprint["kernel"] == "6.1"


async def test_a_gpu_like_the_images_is_bought_though_it_is_not_the_specs_own(world: World) -> None:
    """The first machine was an L4, because there was no T4. What was dumped there needs an L4 again."""
    world.documents.vm_spec = vm_spec(alternatives=[{"machineType": "g2-standard-4", "gpu": {"type": "nvidia-l4"}}])
    t4, l4 = (candidate.key for candidate in candidates_of(world.documents.vm_spec))
    world.cloud.exhausted = {t4}
    await with_a_checkpoint(world)
    world.cloud.exhausted = set()
    await world.pass_time(4000)  # the cooldown of the stockout ends
    await lose(world)
    await world.running(1)
    assert [candidate.key for candidate in world.cloud.asked] == [t4, l4, l4]
    assert world.job(0, 1).request.restore.fingerprint["gpu"] == "nvidia-l4"
