"""Faults of the emulated Compute Engine: no capacity, quotas, refusals, lags and lost answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from google.api_core import exceptions

from sandbox.gce import Happening
from sandbox.plays import play_fault
from tests.sandbox.gce_world import PROJECT, ZONE, World
from tests.sandbox.gce_world import world as running


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def test_a_stockout_shows_in_the_operation(world: World) -> None:
    world.gce.faults.exhaust(ZONE)
    operation = await world.done(await world.insert("vm-1"))
    error = operation.error.errors[0]
    assert error.code == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    info = next(detail.error_info for detail in error.error_details if detail.error_info)
    assert info.reason == "resource_availability"
    assert info.metadatas["attachment"] == "nvidia-tesla-t4:1"
    assert (operation.http_error_status_code, operation.http_error_message) == (503, "SERVICE UNAVAILABLE")
    assert world.gce.instances() == []
    assert world.gce.ledger.count(Happening.FAILED) == 1
    world.gce.faults.restore_capacity(ZONE)
    await world.running("vm-1")


async def test_a_stockout_may_show_at_once(world: World) -> None:
    world.gce.faults.exhaust(ZONE, at_once=True)
    with pytest.raises(exceptions.ServiceUnavailable) as raised:
        await world.insert("vm-1")
    assert raised.value.errors[0]["reason"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert world.gce.instances() == []


async def test_a_stockout_may_be_of_one_machine_type_for_a_number_of_times(world: World) -> None:
    world.gce.faults.exhaust(ZONE, "n1-standard-8", times=1)
    await world.running("other", machine_type=f"zones/{ZONE}/machineTypes/n1-standard-4")
    assert (await world.done(await world.insert("vm-1"))).error.errors
    await world.running("vm-1")


async def test_a_stopped_vm_may_find_no_room_again(world: World) -> None:
    await world.running("vm-1")
    await world.done(await world.call(world.instances.stop_unary, instance="vm-1"))
    world.gce.faults.exhaust(ZONE)
    assert (await world.done(await world.call(world.instances.start_unary, instance="vm-1"))).error.errors
    assert await world.status("vm-1") == "TERMINATED"


async def test_a_quota_is_used_up_by_the_vms_before(world: World) -> None:
    world.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 1, "us-central1")
    first, second = await world.insert("vm-1"), await world.insert("vm-2")
    assert not (await world.done(first)).error.errors
    error = (await world.done(second)).error.errors[0]
    assert error.code == "QUOTA_EXCEEDED"
    quota = error.error_details[0].quota_info
    assert (quota.metric_name, quota.limit) == ("compute.googleapis.com/preemptible_nvidia_t4_gpus", 1)
    assert quota.dimensions == {"region": "us-central1"}
    await world.done(await world.call(world.instances.delete_unary, instance="vm-1"))
    await world.running("vm-2")


async def test_a_quota_is_a_projects(world: World) -> None:
    world.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 1, "us-central1")
    world.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 0, "us-central1", project="another")
    assert not (await world.done(await world.insert("vm-1"))).error.errors
    assert world.gce.faults.limits("another") == {("us-central1", "PREEMPTIBLE_NVIDIA_T4_GPUS"): 0}


async def test_a_global_quota_may_refuse_at_once(world: World) -> None:
    world.gce.faults.set_quota("GPUS_ALL_REGIONS", 0, at_once=True)
    with pytest.raises(exceptions.Forbidden) as raised:
        await world.insert("vm-1")
    assert raised.value.errors[0]["reason"] == "quotaExceeded"


async def test_deletes_may_be_refused_for_a_while(world: World) -> None:
    await world.running("vm-1")
    world.gce.faults.refuse_deletes(2, "vm-1")
    for _ in range(2):
        with pytest.raises(exceptions.BadRequest) as raised:
            await world.call(world.instances.delete_unary, instance="vm-1")
        assert raised.value.errors[0]["reason"] == "resourceNotReady"
    await world.done(await world.call(world.instances.delete_unary, instance="vm-1"))


async def test_an_insert_may_work_and_its_answer_be_lost(world: World) -> None:
    world.gce.faults.lose_insert_answers(1, "another")
    await world.insert("vm-0")
    world.gce.faults.lose_insert_answers(1)
    with pytest.raises(exceptions.ServiceUnavailable):
        await world.insert("vm-1")
    assert (await world.get("vm-1")).name == "vm-1"


async def test_a_new_vm_may_be_missing_from_lists(world: World) -> None:
    world.gce.faults.lag_lists(3600)
    await world.insert("vm-1")
    assert await world.list() == []
    assert (await world.get("vm-1")).name == "vm-1"
    world.gce.faults.lag_lists(0.1)
    await asyncio.sleep(0.1)
    assert await world.list() == ["vm-1"]


@pytest.mark.parametrize(("status", "reason"), [(429, "rateLimitExceeded"), (503, "backendError")])
async def test_the_service_may_be_away(world: World, status: int, reason: str) -> None:
    play_fault(world.gce.faults, "unavailable", (), {"seconds": "30", "status": str(status)})
    url = f"{world.url}/compute/v1/projects/{PROJECT}/zones"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["errors"][0]["reason"]) == (status, reason)
    world.gce.faults.unavailable(0)
    assert await world.list() == []


async def test_credentials_may_expire(world: World) -> None:
    world.gce.faults.expire_credentials(30)
    url = f"{world.url}/compute/v1/projects/{PROJECT}/zones"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["status"]) == (401, "UNAUTHENTICATED")
    world.gce.faults.expire_credentials(0)
    assert await world.list() == []


async def test_operations_wait_returns_when_done_and_not_before(tmp_path: Path) -> None:
    async with running(tmp_path, speed=10.0) as world:
        started = time.monotonic()
        operation = await world.insert("vm-1")
        waited = await world.call(world.operations.wait, operation=operation.name)
        assert waited.status.name == "DONE"
        assert 0.3 < time.monotonic() - started < 60  # the service itself answers after two minutes at the latest


async def test_a_boot_may_take_long(world: World) -> None:
    world.gce.faults.slow_boots(1, 1.0)
    began = time.monotonic()
    operation = await world.done(await world.insert("vm-1"))
    assert not operation.error.errors
    assert time.monotonic() - began > 1
    (instance,) = world.gce.instances()
    assert instance["status"] == "RUNNING"


async def test_a_vm_may_publish_the_host_key_of_another(world: World) -> None:
    faults = world.gce.faults
    faults.mix_up_host_keys(1)
    true = {"hostkeys/ssh-ed25519": "AAAAtrue", "other/key": "1"}
    assert faults.published("vm-1", ZONE, {"other/key": "1"}) == {"other/key": "1"}  # it has published none yet
    false = faults.published("vm-1", ZONE, true)
    assert false["other/key"] == "1"
    assert false["hostkeys/ssh-ed25519"] != "AAAAtrue"
    assert faults.published("vm-1", ZONE, true) == false
    assert faults.published("vm-2", ZONE, true) == true
