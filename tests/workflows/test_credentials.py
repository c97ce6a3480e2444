"""Credentials are revoked, deleted or broken for hours. Whatever waits for them continues within two minutes.

Nobody tells us that a Secret or a right was corrected: the worker may not watch Secrets, and rights are the cloud's.
"""

from collections.abc import Awaitable, Callable

import pytest
from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors
from tests.chaos.faults.credentials import CLOUD_KEY, REGISTRY_KEY, SSH_KEY, WAYS
from tests.workflows.world import World

HOURS = 3 * 3600.0  # after that all back-offs have their longest pauses
SOON = 120.0
JOINS = 90.0  # from the creation of a VM to a replica that runs


def lose(world: World, uses: list[str], why: str) -> None:
    """Delete the credentials that these activities use."""
    world.denied = dict.fromkeys(uses, why)


async def buying(world: World) -> None:
    lose(world, CLOUD_KEY, errors.PERMISSION)
    await world.submit(replicas=2)
    await world.pass_time(HOURS)


async def replacing(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    lose(world, CLOUD_KEY, errors.MISSING)
    world.notice(0)
    await world.pass_time(HOURS)


async def restoring(world: World) -> None:
    """Wait until a replica restores its only image, about which the job has to ask the registry."""
    image = "registry.example/team/ckpt:ffffffff-p000000000500-1700000000"
    world.checkpoints.push(image, 500)
    lose(world, REGISTRY_KEY, errors.INVALID)
    await world.submit(replicas=1, checkpoint={"restoreFrom": image})
    await world.pass_time(HOURS)


WAITS: dict[str, tuple[Callable[[World], Awaitable[None]], int]] = {
    "to buy": (buying, 2),
    "to replace a machine": (replacing, 2),
    "to find its image": (restoring, 1),
}


@pytest.mark.parametrize("what", WAITS)
async def test_what_waits_for_a_key_goes_on_soon_after_it_is_back(world: World, what: str) -> None:
    wait, replicas = WAITS[what]
    world.cluster.steps = 1e9
    await wait(world)
    assert world.active < replicas
    world.denied = {}
    await world.running(replicas, within=SOON + JOINS)


@pytest.mark.parametrize("why", WAYS)
async def test_a_machine_that_could_not_be_deleted_goes_soon_after(world: World, why: str) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    lose(world, CLOUD_KEY, why)
    await world.delete()
    await world.pass_time(HOURS)
    assert world.cloud.instances
    world.denied = {}
    await world.until(lambda: not world.cloud.instances, SOON + 10, "the machine is deleted")
    await world.ended()
    await world.nothing_left()


async def test_a_machine_that_boots_is_entered_soon_after_its_ssh_key_is_back(world: World) -> None:
    lose(world, SSH_KEY, errors.MISSING)
    await world.submit(replicas=1)
    await world.pass_time(420)
    world.denied = {}
    await world.running(1, within=SOON + JOINS)
    assert len(world.cloud.created) == 1


def refuse(_: act.DeleteImages) -> act.DeletedImages:
    raise ApplicationError("there is no Secret team/registry", type=errors.MISSING, non_retryable=True)


@pytest.mark.parametrize("told", ["as an error", "in the answer"])
async def test_old_images_go_once_the_registry_takes_the_key_again(
    world: World, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    world.cluster.steps = 1e9
    await world.submit(replicas=1, checkpoint={"retention": {"keepLast": 2}})
    if told == "as an error":
        monkeypatch.setattr(world.checkpoints, "delete_images", refuse)
    else:
        refused = act.DeletedImages(refused="401 UNAUTHORIZED", by_credentials=True)
        monkeypatch.setattr(world.checkpoints, "delete_images", lambda request: refused)
    await world.until(lambda: len(world.checkpoints.registry) == 6, within=2 * HOURS)
    assert len(world.documents.told("ImagesNotDeleted")) == 1
    assert len(world.of("tidy_checkpoints")) <= 7, "one question with each checkpoint is enough"
    world.denied = {}
    monkeypatch.undo()
    await world.until(lambda: len(world.checkpoints.registry) == 2, within=900, what="the old images are deleted")


async def test_a_job_is_admitted_soon_after_its_secret_is_made(world: World) -> None:
    world.documents.missing = "gcp"
    await world.submit(replicas=1)
    await world.pass_time(HOURS)
    world.documents.missing = None
    await world.running(1, within=SOON + JOINS)
