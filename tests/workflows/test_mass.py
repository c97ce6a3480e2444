"""Everything is lost at once: all machines of a job, and those of many jobs."""

from datetime import datetime

from temporalio.contrib.pydantic import pydantic_data_converter

from api import names
from api.messages import VmStart
from tests.simulation.simulation import Simulation
from tests.workflows.documents import CLUSTER_ID, NAMESPACE, vm_spec
from tests.workflows.estate import Estate
from tests.workflows.world import World

A, B = "us-central1-a", "us-central1-b"
JOBS = 50
WHOLE_JOBS = 20  # of which everything is played: what they share, the market, is asked by fifty in another test


async def test_all_machines_of_a_job_lost_in_one_tick_go_on_from_the_furthest_finished_image(world: World) -> None:
    await world.submit(replicas=4, checkpoint={"checkpointInterval": "3m"})
    await world.running(4)
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) >= 2, within=1200)
    furthest = max(point.progress for point in world.checkpoints.registry.values())
    for name in [world.node_of(index) for index in range(4)]:
        world.cloud.power_off(name)
    await world.until(lambda: all(world.entry(index).incarnation == 1 for index in range(4)) and world.active == 4)
    assert [_restored(world, index) for index in range(4)] == [furthest] * 4
    assert [world.entry(index).restarts for index in range(4)] == [0] * 4
    assert len(world.cloud.of_job(world.documents.start.job_id)) == 4


def _restored(world: World, index: int) -> float:
    """Return the progress from which a replica continues."""
    restore = world.job(index, 1).request.restore
    assert restore is not None
    return restore.progress


async def test_fifty_jobs_that_lost_everything_do_not_storm_an_empty_zone(world: World) -> None:
    world.fleet.living = {f"train-{number}" for number in range(JOBS)}
    world.cloud.exhausted = {A}
    for start in [_vm_of(number) for number in range(JOBS)]:
        await world.fleet.ensure_vm(start)
    await world.pass_time(20 * 60)
    tries = _tries(world)
    assert len(tries) <= JOBS + 4  # nobody knew at first; then one of them tries it after 3, 6, 12 … minutes
    world.cloud.exhausted = set()
    await world.until(lambda: len(world.cloud.instances) == JOBS, within=40 * 60)
    assert {instance.labels[names.GCE_LABEL_JOB] for instance in world.cloud.instances.values()} == {
        f"{number:08x}" for number in range(JOBS)
    }


async def test_jobs_that_lost_all_their_machines_in_one_tick_recover() -> None:
    estate = Estate(Simulation(pydantic_data_converter), WHOLE_JOBS)
    worlds = estate.worlds
    async with estate.worker():
        for world in worlds:
            await world.submit(replicas=2, checkpoint={"checkpointInterval": "3m"})
        await estate.until(lambda: all(world.active == 2 for world in worlds), 1800, "all jobs to run")
        await estate.until(lambda: all(world.checkpoints.registry for world in worlds), 1200, "all to have images")
        furthest = [max(point.progress for point in world.checkpoints.registry.values()) for world in worlds]
        before = len(estate.creations())
        for world in worlds:
            world.cloud.exhausted = {A}
            for name in [world.node_of(0), world.node_of(1)]:
                world.cloud.power_off(name)
        await estate.pass_time(20 * 60)
        assert len(estate.creations()) - before <= 2 * WHOLE_JOBS + 4
        for world in worlds:
            world.cloud.exhausted = set()
        recovered = lambda world: world.active == 2 and all(world.entry(n).incarnation == 1 for n in (0, 1))  # noqa: E731
        await estate.until(lambda: all(map(recovered, worlds)), 3600, "all jobs to run again")
    for world, progress in zip(worlds, furthest, strict=True):
        assert [_restored(world, index) for index in (0, 1)] == [progress] * 2
        assert [world.entry(index).restarts for index in (0, 1)] == [0, 0]


async def test_no_job_waits_behind_the_stockout_of_another(world: World) -> None:
    world.fleet.living = {"train-0", "train-1"}
    world.cloud.exhausted = {A}
    await world.fleet.ensure_vm(_vm_of(0))
    await world.pass_time(60)
    await world.fleet.ensure_vm(_vm_of(1, zones=[B]))
    began = world.clock.now
    await world.until(lambda: world.cloud.instances, within=60)
    assert (world.clock.now - began).total_seconds() < 30
    assert [candidate.zone for candidate in world.cloud.asked] == [A, B]


def _vm_of(number: int, **gcp: object) -> VmStart:
    job_id = f"{number:08x}"
    return VmStart(
        key=names.vm_key(job_id, 0, 1),
        cluster_id=CLUSTER_ID,
        job_id=job_id,
        replica=0,
        namespace=NAMESPACE,
        job_name=f"train-{number}",
        job_uid=f"uid-{number}",
        vm_name="gpu",
        spec=vm_spec(**gcp),
    )


def _tries(world: World) -> list[datetime]:
    return [call.at for call in world.of("create_vm")]
