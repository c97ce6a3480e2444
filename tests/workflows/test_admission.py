"""Before money is spent, what is wrong is reported, and the job continues once the missing thing appears."""

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


async def test_what_a_person_should_know_stands_in_the_message(world: World) -> None:
    world.documents.warnings = ["VMs join by a token of yours"]
    await world.submit(replicas=1)
    await world.running(1)
    accepted = world.documents.condition("Accepted")
    assert (accepted.status, accepted.reason) == ("True", "SpecIsValid")
    assert accepted.message == "VMs join by a token of yours"


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


async def test_a_job_to_which_no_identity_is_lent_waits_for_the_setting(world: World) -> None:
    wanted = f"gcp://{VM_SPEC.gcp.project}"
    world.documents.not_lent = {wanted}
    await world.submit(replicas=1, gcpCredentialsSecretRef=None)
    await world.pass_time(600)
    condition = world.documents.condition("Accepted")
    assert (condition.status, condition.reason) == ("False", "IdentityNotLent")
    assert world.cloud.created == []
    world.documents.not_lent = set()
    await world.running(1)


async def test_a_running_job_keeps_the_identity_that_it_was_admitted_with(world: World) -> None:
    """Machines are still bought and deleted after an upgrade to a release that lends the identity to nobody."""
    await world.submit(replicas=1, gcpCredentialsSecretRef=None)
    await world.running(1)
    world.documents.not_lent = {f"gcp://{VM_SPEC.gcp.project}", "gcp://another"}
    world.documents.edit(max_restarts=7)
    await world.pass_time(600)
    assert world.documents.condition("Accepted").status == "True"
    world.notice(0)
    await world.until(lambda: world.training() == [(0, 1)])
    assert len(world.cloud.created) == 2

    # What it was accepted with, and no other project.
    other = VM_SPEC.gcp.model_copy(update={"project": "another"})
    world.documents.edit_vm(VM_SPEC.model_copy(update={"gcp": other}))
    await world.until(lambda: world.documents.condition("Accepted").status == "False")
    assert world.documents.condition("Accepted").reason == "IdentityNotLent"
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()
