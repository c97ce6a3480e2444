"""What a job's VMs cost: in its status, in its report, and kept in its namespace after it is gone."""

from datetime import UTC, datetime, timedelta

import pytest

from api.cost import CostStatus, MachineCost, told
from tests.workflows.test_report import submit
from tests.workflows.world import World

START = datetime(2026, 1, 1, tzinfo=UTC)
REGION = "us-central1/n1-standard-4"
SPOT, ON_DEMAND = 0.15, 0.54  # n1-standard-4 with a T4


def sums(world: World) -> CostStatus:
    cost = world.documents.status.cost
    assert cost is not None
    return cost


async def test_the_status_says_what_exists_and_what_is_spent(world: World) -> None:
    world.cloud.prices = {REGION: SPOT}
    await submit(world)
    first = world.node_of(0)
    (machine,) = sums(world).machines
    assert (machine.name, machine.gpus, machine.price_per_hour) == (first, 1, SPOT)
    assert machine.on_demand_per_hour == pytest.approx(ON_DEMAND)
    assert sums(world).usd == 0
    await world.pass_time(3600)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    await world.pass_time(3600)
    assert [each.name for each in sums(world).machines] == [world.node_of(0)]
    hours = sums(world).vm_hours
    assert 1 < hours < 1.2
    assert sums(world).usd == pytest.approx(hours * SPOT, abs=0.001)
    assert sums(world).on_demand_usd == pytest.approx(hours * ON_DEMAND, abs=0.001)
    assert sums(world).gpu_hours == hours


async def test_it_is_kept_when_the_job_is_gone(world: World) -> None:
    world.cloud.prices = {REGION: SPOT}
    await submit(world)
    await world.pass_time(3600)
    await world.delete()
    await world.ended()
    (kept,) = world.documents.costs.values()
    (report,) = world.bucket.reports
    assert (kept.job, kept.ended) == ("llm", "Deleted")
    assert kept.usd == report.estimated_cost == pytest.approx(kept.vm_hours * SPOT, abs=0.001)
    assert kept.on_demand_usd == pytest.approx(kept.vm_hours * ON_DEMAND, abs=0.001)


async def test_a_job_on_free_gpus_costs_nothing(world: World) -> None:
    world.cluster.add_node("owned-0")
    await submit(world)
    assert world.documents.status.cost is None
    await world.delete()
    await world.ended()
    assert world.documents.costs == {}


async def test_training_that_has_to_be_repeated_is_lost(world: World) -> None:
    await submit(world)
    await world.pass_time(3600)
    reached = world.documents.status.last_checkpoint_time
    assert reached is not None
    lost_at = world.clock.now
    world.notice(0, seconds=3)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    await world.pass_time(3600)
    assert 0 < sums(world).lost_seconds <= (lost_at - reached).total_seconds() + 120


def test_what_runs_is_reckoned_by_whoever_reads() -> None:
    machine = MachineCost(name="a", since=START, gpus=2, price_per_hour=0.5, on_demand_per_hour=2)
    cost = CostStatus(usd=1, on_demand_usd=4, vm_hours=2, gpu_hours=4, machines=[machine])
    now = START + timedelta(hours=3)
    found = cost.until(now)
    assert (found.usd, found.on_demand_usd, found.vm_hours, found.gpu_hours) == (2.5, 10, 5, 10)
    assert told(cost, now) == "$2.50"
    assert told(cost, START - timedelta(hours=1)) == "$1.00"


def test_a_cost_that_nobody_knows_is_not_nothing() -> None:
    unpriced = CostStatus(machines=[MachineCost(name="a", since=START)])
    assert told(unpriced, START) == "?"
    assert told(CostStatus(vms_without_price=1, vm_hours=1), START) == "?"
    assert told(CostStatus(vm_hours=0), START) == "$0.00"
