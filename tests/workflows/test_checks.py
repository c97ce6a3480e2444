"""What a job needs is checked again while it exists. The conditions say how it is now, and stop nothing."""

import pytest

from api.common import Condition
from api.spot_instance_job import CheckpointStorage
from tests.workflows.documents import vm_spec
from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import World
from workflows.common import continue_as_new as history

HOUR = 3600.0


async def begin(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)


def condition(world: World, kind: str) -> Condition:
    found = world.documents.condition(kind)
    assert found is not None
    return found


async def becomes(world: World, kind: str, status: str, within: float = HOUR) -> None:
    await world.until(lambda: condition(world, kind).status == status, within, f"{kind}={status}")


@pytest.mark.parametrize("kind", ["CredentialsReady", "CheckpointOperatorReady", "RegistryReady", "CloudReady"])
async def test_what_goes_wrong_later_is_told_within_the_hour_and_stops_nothing(world: World, kind: str) -> None:
    await begin(world)
    bought = len(world.cloud.created)
    world.documents.failing_checks = {kind}
    await becomes(world, kind, "False")
    assert [kind in message for message in world.documents.told("CheckFailed")] == [True]
    assert condition(world, "Accepted").status == "True"
    assert world.training() == [(0, 0)]
    assert len(world.cloud.created) == bought
    world.documents.failing_checks = set()
    await becomes(world, kind, "True", within=600)


async def test_an_edit_is_checked_at_once(world: World) -> None:
    await begin(world)
    world.documents.failing_checks = {"CloudReady"}
    world.documents.edit_vm(vm_spec(machineType="no-such-type"))
    await becomes(world, "CloudReady", "False", within=10)
    assert world.of("preflight")[-1].request.vm_spec.gcp.machine_type == "no-such-type"
    world.documents.failing_checks = set()
    world.documents.edit_vm(vm_spec())
    await becomes(world, "CloudReady", "True", within=10)


async def test_what_cannot_be_looked_at_is_unknown_since_when_it_was_known(world: World) -> None:
    await begin(world)
    known = world.of("preflight")[-1].at
    world.down.add("preflight")
    for kind in ("CredentialsReady", "CloudReady", "RegistryReady", "CheckpointOperatorReady"):
        await becomes(world, kind, "Unknown", within=HOUR + 60)
        assert f"last known at {known:%Y-%m-%d %H:%M} UTC" in condition(world, kind).message
    since = condition(world, "CloudReady").last_transition_time
    await world.pass_time(1200)
    assert condition(world, "CloudReady").last_transition_time == since
    assert world.training() == [(0, 0)]
    world.down.clear()
    await becomes(world, "CloudReady", "True", within=600)


async def test_an_api_server_that_is_away_leaves_nothing_known(world: World) -> None:
    await begin(world)
    world.down |= {"load_job", "preflight"}
    await becomes(world, "CredentialsReady", "Unknown", within=HOUR + 400)
    assert world.training() == [(0, 0)]


async def test_a_quiet_job_looks_once_an_hour(world: World) -> None:
    await begin(world)
    before, loads = len(world.of("preflight")), len(world.of("load_job"))
    await world.pass_time(6 * HOUR)
    assert len(world.of("preflight")) - before in (5, 6)
    assert len(world.of("load_job")) - loads <= 6 * 12 + 6
    assert all(call.request.again for call in world.of("preflight")[before:])


async def test_the_time_of_the_last_look_outlives_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin(world)
    monkeypatch.setattr(history, "EVENTS", 100)
    await world.pass_time(HOUR - 600)
    assert await runs(world) > 1
    assert len(world.of("preflight")) == 1


async def test_a_check_that_does_not_apply_any_more_is_not_shown(world: World) -> None:
    world.documents.failing_checks = {"StorageReady"}
    storage = CheckpointStorage(type="gcs", bucket="b")
    await world.submit(replicas=1, checkpoint={"mode": "Application", "checkpointStorage": storage})
    await world.until(lambda: world.documents.condition("StorageReady"))
    world.documents.edit(checkpoint={"mode": "Image"})
    await world.running(1)
    assert world.documents.condition("StorageReady") is None
