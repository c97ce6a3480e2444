"""A VM's entry in the status of its SpotInstanceVM: its own workflow is the only writer, and makes good what failed."""

from datetime import timedelta

import pytest

from tests.workflows import machines
from tests.workflows.documents import vm_spec
from tests.workflows.world import World
from workflows.job.policy import status_writes

DAY = 24 * 3600


def states(world: World) -> list[str | None]:
    return [entry.state for entry in world.documents.entries.values()]


def writes(world: World) -> int:
    return len([call for call in world.calls if call.name == "write_vm_entry"])


async def test_an_entry_that_could_not_be_written_is_written_at_the_next_look(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: "Creating" in states(world))
    world.down = {"write_vm_entry"}
    await world.running(1)
    await world.pass_time(120)
    assert states(world) == ["Creating"]
    world.down = set()
    await world.until(lambda: states(world) != ["Creating"], within=DAY)
    entries = list(world.documents.entries.values())
    assert [entry.state for entry in entries] == ["Ready"]
    assert entries[0].joined_cluster
    assert entries[0].node_name == entries[0].name


async def test_nothing_is_written_twice_if_nothing_failed(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    written = writes(world)
    await world.pass_time(DAY)
    assert writes(world) == written


async def test_a_released_vm_that_cannot_be_deleted_yet_is_shown_as_such(world: World) -> None:
    world.cloud.refuse_deletes = 100
    await world.submit(replicas=1)
    await world.running(1)
    await world.delete()
    await world.until(lambda: states(world) == ["Deleting"], within=120)
    world.cloud.refuse_deletes = 0
    await world.ended()
    assert states(world) == []


async def test_a_boot_that_takes_long_is_shown_stage_by_stage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "SSH_SECONDS", 200.0)
    await world.submit(replicas=1)
    await world.until(lambda: "Booting" in states(world), within=180)
    assert "waiting for SSH" in (world.entry(0).message or "")
    entry = next(iter(world.documents.entries.values()))
    assert entry.instance_id is not None
    await world.running(1)
    assert states(world) == ["Ready"]
    shown = [call.request.entry.state for call in world.of("write_vm_entry")]
    assert shown == ["Creating", "Booting", "Joining", "Ready"]


async def test_the_entry_names_the_attempt_that_has_a_machine(world: World) -> None:
    world.cloud.exhausted = {"us-central1-a"}
    world.documents.vm_spec = vm_spec(zones=["us-central1-b"])
    await world.submit(replicas=1)
    await world.until(lambda: world.machines.joining)
    entry = next(iter(world.documents.entries.values()))
    assert (entry.name, entry.zone) == (next(iter(world.machines.joining)), "us-central1-b")
    assert not entry.joined_cluster


async def test_a_join_that_failed_is_written_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message may be replaced before the next write of what is not urgent."""
    monkeypatch.setattr(status_writes, "QUIET", timedelta(seconds=30))
    world.machines.failing_joins = 1
    await world.submit(replicas=1)
    await world.running(1)
    messages = [entry.message or "" for status in world.documents.statuses for entry in status.job_statuses]
    assert any(message.startswith("JoinRetried") for message in messages)
    assert len(world.cloud.created) == 1
