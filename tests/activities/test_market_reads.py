"""What the market reads from the cloud: the emulated GCE through Google's own client."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities.signatures import FindPreempted, Preempted, ReadPrice
from api import errors
from api.market import Candidate
from api.spot_instance_vm import Gpu
from tests.activities.compute_setting import ZONE, Setting, create_vm, setting, vm_ref

__all__ = ["setting"]

T4 = Gpu(type="nvidia-tesla-t4", count=1)
CANDIDATE = Candidate(zone=ZONE, machine_type="n1-standard-4", gpu=T4)


async def price_of(setting: Setting, candidate: Candidate) -> float | None:
    read = ReadPrice(project="demo", candidate=candidate, namespace="default")
    return (await setting.run(setting.activities.read_price, read)).usd_per_hour


async def preempted(setting: Setting, since: datetime, zones: list[str]) -> Preempted:
    find = FindPreempted(project="demo", zones=zones, since=since, namespace="default")
    return await setting.run(setting.activities.find_preempted, find)


async def test_the_price_is_that_of_the_machine_with_its_gpus(setting: Setting) -> None:
    bare = await price_of(setting, Candidate(zone=ZONE, machine_type="n1-standard-4"))
    whole = await price_of(setting, CANDIDATE)
    assert bare is not None
    assert whole is not None
    assert 0 < bare < whole


async def test_a_price_is_its_regions(setting: Setting) -> None:
    setting.gce.faults.set_price("us-east1", "n1-standard-4", 1.375)
    assert await price_of(setting, CANDIDATE.model_copy(update={"zone": "us-east1-c"})) == pytest.approx(1.375)
    assert await price_of(setting, CANDIDATE) != pytest.approx(1.375)


async def test_nobody_tells_the_price_of_what_is_not_sold(setting: Setting) -> None:
    assert await price_of(setting, Candidate(zone=ZONE, machine_type="n1-standard-5")) is None


async def test_a_price_may_be_a_secret(setting: Setting) -> None:
    setting.gce.faults.withdraw_permissions("compute.advice.capacityHistory")
    with pytest.raises(ApplicationError) as raised:
        await price_of(setting, CANDIDATE)
    assert raised.value.type == errors.PERMISSION


async def test_a_machine_that_was_taken_back_is_found_by_its_operation(setting: Setting) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    await setting.created(create_vm())
    await setting.created(create_vm(vm_ref(2)))
    await asyncio.wait_for(setting.gce.preempt(vm_ref().name, notice=0), 120)
    (found,) = (await preempted(setting, began, [ZONE, "us-central1-b"])).vms
    assert (found.name, found.zone) == (vm_ref().name, ZONE)
    assert found.at >= began
    assert (await preempted(setting, datetime.now(UTC) + timedelta(seconds=60), [ZONE])).vms == []
    assert (await preempted(setting, began, ["us-central1-b"])).vms == []
