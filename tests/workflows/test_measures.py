"""What workflows measure of the promise that Outlast makes: once, and never again in a replay."""

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from api import metrics
from tests.simulation.meter import Meter
from tests.simulation.simulation import Simulation
from tests.workflows.test_report import STORAGE, submit
from tests.workflows.test_rescue import LATEST, NOTICE, recovered, running
from tests.workflows.world import World

REGION = "us-central1/n1-standard-4"
SPOT, ON_DEMAND = 0.15, 0.54  # n1-standard-4 with a T4


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
async def measured_world(meter: Meter) -> World:
    """Make a world without a worker, of which is known what it measures."""
    simulation = Simulation(pydantic_data_converter)
    simulation.meter = meter
    world = World(simulation)
    world.cloud.prices = {REGION: SPOT}
    return world


def measured(meter: Meter, metric: metrics.Metric, **labels: str) -> list[float]:
    assert meter.labels(metric.name) == set(metric.labels)
    return meter.of(metric.name, **labels)


async def lose_one(world: World) -> None:
    await running(world, 1, checkpoint={"checkpointStorage": STORAGE})
    world.notice(0, LATEST)
    await recovered(world, 0)
    await world.pass_time(200)


@pytest.mark.parametrize("cached", [0, 1000], ids=["replaying each task", "remembering"])
async def test_a_loss_is_measured_once(measured_world: World, meter: Meter, cached: int) -> None:
    world = measured_world
    async with world.worker(max_cached_workflows=cached):
        await lose_one(world)
    (saved,) = measured(meter, metrics.NOTICE_TO_CHECKPOINT, job_namespace="team", source="dying")
    assert 0 < saved < NOTICE
    took = {}
    for phase in ("machine", "training", "all"):
        (took[phase],) = measured(meter, metrics.RECOVERY, job_namespace="team", phase=phase)
    assert took["machine"] + took["training"] == pytest.approx(took["all"])
    assert saved < took["all"] < 900
    (lost,) = measured(meter, metrics.LOST_TRAINING, job_namespace="team")
    assert 0 <= lost < 30
    waits = measured(meter, metrics.CAPACITY_WAIT, job_namespace="team", provisioning="Spot", reason="none")
    assert len(waits) == 2
    assert all(0 < wait < 60 for wait in waits)


async def test_checkpoints_are_measured_by_what_they_were_for_and_how_they_ended(
    measured_world: World, meter: Meter
) -> None:
    world = measured_world
    async with world.worker():
        await lose_one(world)
    usable = measured(meter, metrics.CHECKPOINT, job_namespace="team", outcome="Usable")
    assert len(usable) == len(world.documents.told("CheckpointCompleted"))
    assert meter.of(metrics.CHECKPOINT.name, reason="Notice")
    assert meter.of(metrics.CHECKPOINT.name, reason="Scheduled")
    assert len(meter.of(metrics.CHECKPOINT.name, outcome="Failed")) == len(world.documents.told("CheckpointFailed"))


async def test_each_vm_adds_what_it_has_cost_when_it_is_gone(measured_world: World, meter: Meter) -> None:
    world = measured_world
    async with world.worker():
        await lose_one(world)
        assert len(meter.of(metrics.VM_COST.name)) == 1
        await world.delete()
        await world.ended()
    (report,) = world.bucket.reports
    spent = measured(meter, metrics.VM_COST, job_namespace="team", provisioning="Spot")
    assert len(spent) == 2
    assert sum(spent) == pytest.approx(report.estimated_cost, abs=0.001)
    on_demand = measured(meter, metrics.VM_ON_DEMAND_COST, job_namespace="team", provisioning="Spot")
    assert sum(on_demand) == pytest.approx(report.on_demand_cost, abs=0.001)


async def test_a_wait_for_capacity_says_what_it_was_for(measured_world: World, meter: Meter) -> None:
    world = measured_world
    world.cloud.stockouts = 1
    async with world.worker():
        await submit(world)
    (wait,) = measured(meter, metrics.CAPACITY_WAIT, reason="NoCapacity")
    assert wait > 10
