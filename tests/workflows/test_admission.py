"""Before money is spent: what is wrong is told, and heals when the missing thing appears."""

import pytest

from tests.workflows.documents import VM_SPEC
from tests.workflows.world import World


async def test_a_missing_secret_is_told_and_heals(world: World) -> None:
    world.documents.missing = "gcp"
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("Accepted"))
    assert world.documents.condition("Accepted").status == "False"
    assert "gcp" in world.documents.condition("Accepted").message
    await world.pass_time(600)
    assert world.cloud.created == []
    world.documents.missing = None
    await world.running(1)
    assert world.documents.condition("Accepted").status == "True"


async def test_a_missing_vm_reference_heals(world: World) -> None:
    world.documents.vm_spec = None
    await world.submit(replicas=1)
    await world.pass_time(60)
    world.documents.vm_spec = VM_SPEC
    await world.running(1)


@pytest.mark.parametrize("kind", ["CheckpointOperatorReady", "RegistryReady", "CredentialsReady", "CloudReady"])
async def test_a_check_that_fails_is_told_and_heals(world: World, kind: str) -> None:
    world.documents.failing_checks = {kind}
    await world.submit(replicas=1)
    await world.until(lambda: (c := world.documents.condition(kind)) and c.status == "False")
    await world.pass_time(120)
    assert world.cloud.created == []
    world.documents.failing_checks = set()
    await world.running(1)
    assert world.documents.condition(kind).status == "True"


async def test_a_secret_that_goes_while_it_runs_stops_nothing(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.missing = "gcp"
    world.documents.edit(max_restarts=7)
    await world.until(lambda: world.documents.condition("Accepted").status == "False")
    assert world.training() == [(0, 0)]
    world.documents.missing = None
    await world.until(lambda: world.documents.condition("Accepted").status == "True")


async def test_an_object_that_vanished_is_torn_down(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.exists = False
    assert await world.ended() == "Gone"
    await world.nothing_left()
