"""Two teams share a key and a project. The mistake of one neither delays the other nor is shown to it."""

from collections.abc import AsyncIterator, Callable

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors
from api.market import Price
from api.spot_instance_vm import SpotInstanceVMSpec
from tests.simulation.simulation import Simulation
from tests.workflows.documents import vm_spec
from tests.workflows.estate import Estate
from tests.workflows.world import World

A, B = "us-central1-a", "us-central1-b"
SHARED_KEY = {"gcpCredentialsSecretRef": {"name": "gcp", "namespace": "shared"}}
SECRET_WORDS = "subnetwork secret-net of outlast-instance in team-a"
"""Words that only the first team may read."""


class Teams(Estate):
    """Two teams with one job each."""

    def __init__(self, env: Simulation) -> None:
        super().__init__(env, jobs=2, namespaces=["team-a", "team-b"])
        self.first, self.second = self.worlds

    async def submit(self, world: World, *, refused: str = "", scope: str = "", spec: SpotInstanceVMSpec) -> None:
        """Submit a team's job; ``refused`` is the type of error with which the cloud answers all its creations."""
        world.documents.vm_spec = spec
        if refused:
            world.cloud.refuses = refusing(refused, scope)
        await world.submit(replicas=1, **SHARED_KEY)

    async def refused(self, world: World) -> None:
        """Wait until a team has read why the cloud refuses its machine."""
        unmet = lambda: (c := world.documents.condition("CapacityAvailable")) and c.status == "False"  # noqa: E731
        await self.until(unmet, 300, "the refusal to be told")
        await self.pass_time(1)


@pytest.fixture
async def teams() -> AsyncIterator[Teams]:
    estate = Teams(Simulation(pydantic_data_converter))
    async with estate.worker():
        yield estate


def refusing(kind: str, scope: str = "") -> Callable[[act.CreateVm], ApplicationError]:
    """Make a cloud that refuses every creation with this type of error."""
    details = [scope] if scope else []
    return lambda request: ApplicationError(f"{kind}: {SECRET_WORDS}", *details, type=kind, non_retryable=True)


def read_by(world: World) -> str:
    """Collect everything that the people of a team ever read."""
    conditions = [str(c.message) for status in world.documents.statuses for c in status.conditions]
    entries = [str(entry.message) for status in world.documents.statuses for entry in status.job_statuses]
    return "\n".join([*conditions, *entries, *(event.message for event in world.documents.events)])


def starved(world: World) -> bool:
    condition = world.documents.condition("CapacityAvailable")
    return condition is not None and condition.status == "False"


OWN_MISTAKES = [
    (errors.INVALID, ""),
    (errors.MISSING, ""),
    (errors.UNSUPPORTED, ""),
    (errors.PERMISSION, "iam.serviceAccounts.actAs"),
    (errors.PERMISSION, "compute.subnetworks.use"),
    (errors.QUOTA, "IN_USE_ADDRESSES"),
    ("Transient", ""),
]


@pytest.mark.parametrize(("kind", "scope"), OWN_MISTAKES)
async def test_what_one_team_got_wrong_does_not_hold_up_another_for_a_second(
    teams: Teams, kind: str, scope: str
) -> None:
    await teams.submit(teams.first, refused=kind, scope=scope, spec=vm_spec(subnetwork="secret-net"))
    await teams.refused(teams.first)
    await teams.submit(teams.second, spec=vm_spec())
    await teams.until(lambda: teams.second.of("create_vm"), 10, "the second team to buy")
    assert not any(status for status in teams.second.documents.statuses if starved(teams.second))
    await teams.until(lambda: teams.second.active == 1, 300, "the second team to run")
    assert SECRET_WORDS in read_by(teams.first)
    assert SECRET_WORDS not in read_by(teams.second)


SHARED_TROUBLE = [
    (
        errors.PERMISSION,
        "compute.instances.create",
        "shared/gcp lacks the permission compute.instances.create: grant it",
    ),
    (errors.PERMISSION, "", "Google refuses shared/gcp: check that its key is valid"),
    (errors.QUOTA, "NVIDIA_T4_GPUS", "the quota NVIDIA_T4_GPUS is used up in us-central1: ask Google"),
    (errors.QUOTA, "GPUS_ALL_REGIONS", "the quota GPUS_ALL_REGIONS is used up in all regions: ask Google"),
    (errors.NO_CAPACITY, "", f"n1-standard-4 + 1 x nvidia-tesla-t4 in {A} (Spot) is out of stock"),
]


@pytest.mark.parametrize(("kind", "scope", "told"), SHARED_TROUBLE)
async def test_what_concerns_both_spares_the_other_its_own_try_and_is_told_in_words_of_ours(
    teams: Teams, kind: str, scope: str, told: str
) -> None:
    await teams.submit(teams.first, refused=kind, scope=scope, spec=vm_spec())
    await teams.refused(teams.first)
    await teams.submit(teams.second, spec=vm_spec())
    await teams.until(lambda: starved(teams.second), 60, "the second team to be told")
    assert not teams.second.of("create_vm")
    assert told in read_by(teams.second)
    assert SECRET_WORDS in read_by(teams.first)
    assert SECRET_WORDS not in read_by(teams.second)


async def test_a_quota_of_one_gpu_type_leaves_other_gpus_and_machines_without_any_alone(teams: Teams) -> None:
    await teams.submit(teams.first, refused=errors.QUOTA, scope="NVIDIA_T4_GPUS", spec=vm_spec())
    await teams.refused(teams.first)
    l4 = vm_spec(machineType="g2-standard-4", more={"gpu": {"type": "nvidia-l4", "count": 1}})
    await teams.submit(teams.second, spec=l4)
    await teams.until(lambda: teams.second.of("create_vm"), 10, "the L4 to be bought")


async def test_who_fails_by_its_own_fault_after_a_shortage_gives_the_turn_back(teams: Teams) -> None:
    """After a stockout one VM tries and the others wait for it, but not if it learns something about its own spec."""
    teams.first.cloud.exhausted = {A}
    await teams.submit(teams.first, spec=vm_spec())
    await teams.refused(teams.first)
    teams.first.cloud.exhausted = set()
    teams.first.cloud.refuses = refusing(errors.INVALID)
    began = len(teams.first.of("create_vm"))
    await teams.until(lambda: len(teams.first.of("create_vm")) > began, 300, "the first team's turn")
    await teams.pass_time(1)
    await teams.submit(teams.second, spec=vm_spec())
    await teams.until(lambda: teams.second.of("create_vm"), 10, "the second team's turn")


async def test_a_spec_that_is_corrected_is_bought_by_at_once(teams: Teams) -> None:
    wrong = lambda request: refusing(errors.INVALID)(request) if request.spec.gcp.subnetwork else None  # noqa: E731
    teams.first.cloud.refuses = wrong
    await teams.submit(teams.first, spec=vm_spec(subnetwork="secret-net", zones=[B]))
    await teams.refused(teams.first)
    await teams.pass_time(3600)
    tries = len(teams.first.of("create_vm"))
    assert tries <= 2 * 7  # in two zones: at 0, 3, 9, 21, 45, 75 minutes
    teams.first.documents.edit_vm(vm_spec(zones=[B]))
    await teams.until(lambda: len(teams.first.of("create_vm")) > tries, 10, "the corrected VM to be bought")
    await teams.until(lambda: teams.first.active == 1, 300, "the job to run")
    assert teams.first.documents.condition("CapacityAvailable").status == "True"  # type: ignore[union-attr]


async def test_a_shortage_that_an_edit_avoids_is_left_at_once(teams: Teams) -> None:
    teams.first.cloud.exhausted = {A}
    await teams.submit(teams.first, spec=vm_spec())
    await teams.refused(teams.first)
    teams.first.documents.edit_vm(vm_spec(zones=[B]))
    await teams.until(lambda: len(teams.first.cloud.instances) == 1, 15, "a VM in the other zone")


async def test_a_machine_that_is_being_made_outlives_an_edit(teams: Teams) -> None:
    await teams.submit(teams.first, spec=vm_spec())
    await teams.until(lambda: teams.first.active == 1, 300, "the job to run")
    teams.first.documents.edit_vm(vm_spec(zones=[B]))
    await teams.pass_time(600)
    assert len(teams.first.of("create_vm")) == 1


async def test_a_key_that_may_not_read_prices_leaves_the_others_theirs(
    teams: Teams, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = teams.first.cloud  # the market asks the first world
    market.prices = {"us-central1/n1-standard-4": 0.25}
    read = market.read_price

    def read_price(request: act.ReadPrice) -> Price:
        if request.namespace == "team-a":
            raise ApplicationError("no prices for you", type=errors.PERMISSION, non_retryable=True)
        return read(request)

    monkeypatch.setattr(market, "read_price", read_price)
    for world in teams.worlds:
        world.documents.vm_spec = vm_spec(zones=[B])
        await world.submit(replicas=1, gcpCredentialsSecretRef={"name": "gcp"})
        await teams.until(lambda world=world: world.documents.told("Buying"), 60, "a VM to be bought")  # type: ignore[misc]
    assert "the first that is available" in teams.first.documents.told("Buying")[0]
    assert "$0.250" in teams.second.documents.told("Buying")[0]
