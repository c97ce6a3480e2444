"""The condition ``PodsStart`` says whether pods come to run, and why they do not."""

from tests.workflows.world import World


def pods_start(world: World) -> tuple[str, str]:
    """Status and reason of the condition."""
    condition = world.documents.condition("PodsStart")
    return (condition.status, condition.reason) if condition else ("", "")


async def test_nothing_is_said_of_pods_before_one_was_started(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Provisioning")
    assert pods_start(world) == ("Unknown", "NoneStarted")


async def test_pods_that_run_have_started(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(5)
    assert pods_start(world) == ("True", "PodsRun")


async def test_the_kubelets_words_are_told_while_a_restore_waits_for_the_registry(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(1200)
    world.cluster.registry_down = True
    world.notice(0)
    await world.until(lambda: pods_start(world) == ("False", "ImagePullBackOff"), 900)
    said = world.documents.condition("PodsStart")
    assert said is not None
    assert "replica 0" in said.message
    assert "connection refused" in said.message
    assert len(world.documents.told("PodDoesNotStart")) == 1
    world.cluster.registry_down = False
    await world.until(lambda: pods_start(world) == ("True", "PodsRun"), 60)
