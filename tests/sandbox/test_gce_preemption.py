"""Preemption in the emulated Compute Engine: what happens to a spot VM, in which order, and what can be seen of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.api_core import exceptions

from sandbox.gce import ApiError, Happening
from sandbox.gce.transitions import usual_notice
from tests.sandbox.gce_world import World
from tests.sandbox.gce_world import world as running
from tests.sandbox.light_nodes import eventually

_STOP = {"provisioning_model": "SPOT", "automatic_restart": False, "instance_termination_action": "STOP"}


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def _events(world: World) -> list[Happening]:
    return [event.what for event in world.gce.ledger.events]


async def test_a_preempted_vm_is_deleted_if_its_owner_said_so(world: World) -> None:
    machine = await world.running("vm-1")
    await world.gce.preempt("vm-1", notice=0.5)
    assert machine.calls == ["boot", "notice", "power_off(0.5)"]
    with pytest.raises(exceptions.NotFound):
        await world.get("vm-1")
    assert await _events(world) == [
        Happening.REQUESTED,
        Happening.RUNNING,
        Happening.NOTICE,
        Happening.SOFT_OFF,
        Happening.PREEMPTED,
        Happening.DELETED,
    ]


async def test_a_preempted_vm_is_stopped_if_its_owner_said_so(world: World) -> None:
    await world.running("vm-1", scheduling=_STOP)
    await world.gce.preempt("vm-1", notice=0.1)
    assert await world.status("vm-1") == "TERMINATED"
    await world.done(await world.call(world.instances.start_unary, instance="vm-1"))
    assert await world.status("vm-1") == "RUNNING"


async def test_the_vm_is_reported_running_until_the_power_is_off(world: World) -> None:
    machine = await world.running("vm-1")
    machine.may_go_off.clear()
    preemption = asyncio.create_task(world.gce.preempt("vm-1", notice=5))
    await machine.goes_off()
    assert await world.status("vm-1") == "RUNNING"
    machine.may_go_off.set()
    await preemption


async def test_a_preemption_is_recorded_as_a_system_event(world: World) -> None:
    await world.running("vm-1")
    vm = await world.get("vm-1")
    await world.gce.preempt("vm-1", notice=0.1)
    text = 'operationType="compute.instances.preempted"'
    (event,) = await world.call(world.operations.list, filter=text)
    assert event.name.startswith("systemevent-")
    assert (event.target_id, event.user, event.status.name) == (vm.id, "system", "DONE")
    assert event.status_message == "Instance was preempted."


async def test_a_longer_notice_comes_before_the_soft_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.gce.transitions.SOFT_OFF_SECONDS", 0.1)
    machine = await world.running("vm-1")
    started = time.monotonic()
    await world.gce.preempt("vm-1", notice=0.6)
    assert machine.calls[-2:] == ["notice", "power_off(0.1)"]
    assert time.monotonic() - started > 0.5


@pytest.mark.parametrize(("duration", "seconds"), [(None, 0.2), ("120", 120.2)])
async def test_a_vm_has_its_own_notice_if_none_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, duration: str | None, seconds: float
) -> None:
    monkeypatch.setattr("sandbox.gce.transitions.SOFT_OFF_SECONDS", 0.2)
    own = {"preemption_notice_duration": {"seconds": duration}} if duration else {}
    machine = await world.running("vm-1", scheduling={"provisioning_model": "SPOT", **own})
    machine.may_go_off.clear()
    preemption = asyncio.create_task(world.gce.preempt("vm-1"))
    await machine.reaches("notice" if duration else "power_off(0.2)")
    (instance,) = world.gce.fleet.inventory.all()
    assert usual_notice(instance) == pytest.approx(seconds)
    preemption.cancel()
    machine.may_go_off.set()


async def test_a_preemption_without_warning(world: World) -> None:
    machine = await world.running("vm-1")
    await world.gce.preempt("vm-1", notice=0)
    assert machine.calls[-1] == "power_off(0)"


async def test_simulating_a_maintenance_event_preempts_a_spot_vm(world: World) -> None:
    machine = await world.running("vm-1")
    operation = await world.call(world.instances.simulate_maintenance_event_unary, instance="vm-1")
    assert operation.operation_type == "compute.instances.simulateMaintenanceEvent"
    await world.done(operation)

    async def gone() -> bool:
        return not world.gce.instances()

    await eventually("preemption of vm-1", gone)
    assert machine.calls == ["boot", "notice", "power_off(30)"]


async def test_simulating_a_maintenance_event_restarts_an_ordinary_vm(world: World) -> None:
    machine = await world.running("vm-1", scheduling={"on_host_maintenance": "TERMINATE"})
    await world.done(await world.call(world.instances.simulate_maintenance_event_unary, instance="vm-1"))
    assert machine.calls == ["boot", "power_off(0.9)", "boot"]
    assert await world.status("vm-1") == "RUNNING"


async def test_a_vm_preempted_before_it_runs_fails_its_insert(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.gce.transitions.STAGING_SECONDS", 1e6)
    inserting = await world.insert("vm-1", scheduling=_STOP)
    await world.becomes("STAGING", "vm-1")
    await world.gce.preempt("vm-1")
    operation = await world.done(inserting)
    assert operation.error.errors[0].code == "UNSUPPORTED_OPERATION"
    assert await world.status("vm-1") == "TERMINATED"  # and the name stays taken
    with pytest.raises(exceptions.Conflict):
        await world.insert("vm-1")


async def test_the_owner_may_delete_during_the_notice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.gce.transitions.SOFT_OFF_SECONDS", 1e6)
    machine = await world.running("vm-1")
    machine.shutdown = 1e6
    preemption = asyncio.create_task(world.gce.preempt("vm-1", notice=1e6))
    await machine.goes_off()
    machine.shutdown = 0
    await world.done(await world.call(world.instances.delete_unary, instance="vm-1"))
    await asyncio.wait_for(preemption, 120)
    assert world.gce.instances() == []
    assert Happening.PREEMPTED not in await _events(world)


async def test_an_ordinary_vm_is_not_preempted(world: World) -> None:
    await world.running("vm-1", scheduling={"on_host_maintenance": "TERMINATE"})
    with pytest.raises(ValueError, match="not a spot VM"):
        await world.gce.preempt("vm-1")


async def test_a_vm_is_preempted_once(world: World) -> None:
    machine = await world.running("vm-1", scheduling=_STOP)
    machine.may_go_off.clear()
    preemption = asyncio.create_task(world.gce.preempt("vm-1", notice=1))
    await machine.goes_off()
    with pytest.raises(ApiError, match="not ready"):
        await world.gce.preempt("vm-1")
    machine.may_go_off.set()
    await preemption
    with pytest.raises(LookupError, match="there are: vm-1"):
        await world.gce.preempt("vm-2")
