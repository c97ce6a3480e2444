"""Nothing is bought on which the pod can never run. A free GPU of the cluster is still taken."""

import pytest

from api.market import Candidate
from tests.workflows.documents import vm_spec
from tests.workflows.world import World

TOO_LITTLE = "the template requests 24.0Gi of memory and such a machine offers 14.7Gi"


def too_small(candidate: Candidate) -> str | None:
    return TOO_LITTLE if candidate.machine_type == "n1-standard-4" else None


def condition(world: World) -> tuple[str, str]:
    found = world.documents.condition("MachineFits")
    assert found is not None
    return found.status, found.message


async def test_what_can_never_fit_is_told_and_never_bought(world: World) -> None:
    world.documents.misfit = too_small
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("MachineFits"), within=120)
    assert condition(world)[0] == "False"
    assert TOO_LITTLE in condition(world)[1]
    await world.pass_time(3 * 3600)
    assert world.cloud.asked == []


async def test_a_corrected_vm_is_bought_at_once(world: World) -> None:
    world.documents.misfit = too_small
    await world.submit(replicas=1)
    await world.pass_time(3600)
    world.documents.edit_vm(vm_spec(machineType="n1-standard-8"))
    await world.until(lambda: world.cloud.created, within=30)
    await world.running(1)
    assert condition(world) == ("True", "")


async def test_a_corrected_template_is_bought_for_at_once(world: World) -> None:
    world.documents.misfit = too_small
    await world.submit(replicas=1)
    await world.pass_time(3600)
    world.documents.misfit = lambda candidate: None
    world.documents.edit(job_template={"spec": {"template": {"spec": {"containers": [{"name": "t", "image": "i"}]}}}})
    await world.until(lambda: world.cloud.created, within=30)
    assert world.documents.condition("Accepted").status == "True"


async def test_a_free_gpu_of_the_cluster_is_taken_though_nothing_bought_would_fit(world: World) -> None:
    world.documents.misfit = too_small
    world.cluster.add_node("own-1")
    await world.submit(replicas=1)
    await world.running(1)
    assert world.cloud.asked == []
    assert condition(world)[0] == "False"


async def test_a_template_that_is_corrected_after_the_free_gpu_was_lost_is_bought_for_at_once(world: World) -> None:
    world.documents.misfit = too_small
    world.cluster.add_node("own-1")
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.told("PodDoesNotStart"))
    world.cluster.remove_node("own-1")
    await world.until(lambda: "no VM is bought" in (world.entry(0).message or ""), within=1800)
    world.documents.misfit = lambda candidate: None
    world.documents.edit(job_template={"spec": {"template": {"spec": {"containers": [{"name": "t", "image": "i"}]}}}})
    await world.until(lambda: world.cloud.created, within=30)


@pytest.mark.parametrize("corrected", [True, False])
async def test_a_replica_that_lost_its_machine_buys_nothing_that_does_not_fit(world: World, corrected: bool) -> None:
    """Somebody edited the SpotInstanceVM to a machine that is too small while the replica ran."""
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.misfit = lambda candidate: "too little memory" if candidate.machine_type == "n1-highcpu-2" else None
    world.documents.edit_vm(vm_spec(machineType="n1-highcpu-2"))
    await world.until(lambda: condition(world)[0] == "False", within=30)
    assert world.training() == [(0, 0)]
    world.notice(0)
    await world.pass_time(6 * 3600)
    assert len(world.cloud.asked) == 1
    assert "no VM is bought: n1-highcpu-2" in (world.entry(0).message or "")
    if corrected:
        world.documents.edit_vm(vm_spec())
        await world.running(1)
        assert len(world.cloud.asked) == 2


async def test_nothing_is_bought_by_a_check_that_was_made_before_an_edit(world: World) -> None:
    """The check of the edited SpotInstanceVM is under way when a machine is to be bought."""
    world.cloud.exhausted = {"us-central1-a"}
    await world.submit(replicas=1)
    await world.until(lambda: world.cloud.asked)
    world.documents.misfit = lambda candidate: "too little memory" if candidate.machine_type == "n1-highcpu-2" else None
    world.down.add("preflight")
    world.documents.edit_vm(vm_spec(machineType="n1-highcpu-2"))
    await world.pass_time(300)
    assert {candidate.machine_type for candidate in world.cloud.asked} == {"n1-standard-4"}


async def test_of_several_alternatives_only_those_that_fit_are_bought(world: World) -> None:
    world.documents.vm_spec = vm_spec(zones=["us-central1-b"], alternatives=[{"machineType": "n1-standard-8"}])
    world.documents.misfit = too_small
    world.cloud.exhausted = {"us-central1-a"}
    await world.submit(replicas=2)
    await world.running(2)
    assert {candidate.machine_type for candidate in world.cloud.asked} == {"n1-standard-8"}
    assert condition(world)[0] == "True"
    assert TOO_LITTLE in condition(world)[1]


async def test_a_zone_that_its_volume_has_chosen_holds_for_the_next_machine(world: World) -> None:
    """A claim is bound with the first pod, after the hourly check."""
    world.documents.vm_spec = vm_spec(zones=["us-central1-b"])
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.misfit = lambda candidate: "its volume is in us-central1-a" if candidate.zone[-1] != "a" else None
    world.cloud.exhausted = {"us-central1-a"}
    world.notice(0)
    await world.pass_time(3600)
    assert {candidate.zone for candidate in world.cloud.asked} == {"us-central1-a"}
    assert "us-central1-a" in condition(world)[1]


async def test_on_demand_is_passed_over_if_the_template_asks_for_spot(world: World) -> None:
    world.documents.vm_spec = vm_spec(more={"onDemandFallback": {"after": "10m"}})
    world.documents.misfit = lambda candidate: "gke-spot" if candidate.provisioning == "OnDemand" else None
    world.cloud.exhausted = {"us-central1-a"}
    await world.submit(replicas=1)
    await world.pass_time(3600)
    assert {candidate.provisioning for candidate in world.cloud.asked} == {"Spot"}
