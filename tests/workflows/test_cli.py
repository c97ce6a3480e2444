"""The Temporal CLI in every phase: cancel and terminate, a job's workflow and a VM's, as docs/temporal-cli.md says.

``reset`` needs the real server: see test_cli_dev_server.py.
"""

from collections.abc import Awaitable, Callable

import pytest
from temporalio.client import WorkflowHandle

from api import names
from api.messages import VmStart
from tests.workflows.documents import NAME
from tests.workflows.test_market import memory
from tests.workflows.test_phase_table import INTO, into
from tests.workflows.world import World

PHASES = list(INTO)
STAGES = ["Creating", "Booting", "Joining", "Registering", "Ready", "Noticed", "Deleting"]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_cancelled_job_is_torn_down_and_is_over_for_good(world: World, phase: str) -> None:
    await into(world, phase)
    world.down.clear()
    world.cluster.stuck_pods.clear()
    await world.handle.cancel()
    assert await world.ended() == "Cancelled"
    await world.nothing_left()
    failed = world.documents.condition("Failed")
    assert failed is not None
    assert (failed.status, failed.reason) == ("True", "Cancelled")


@pytest.mark.parametrize("phase", PHASES)
async def test_a_terminated_job_is_torn_down_when_its_object_is_deleted(world: World, phase: str) -> None:
    await into(world, phase)
    world.down.clear()
    world.cluster.stuck_pods.clear()
    world.fleet.living.add(NAME)  # its object exists
    await world.handle.terminate("by a person with the CLI")
    await world.pass_time(60)
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()


def vm(world: World, number: int = 0) -> WorkflowHandle[object, object]:
    """Find the workflow of a VM, in the order in which they began."""
    return world.env.client.get_workflow_handle(names.vm_workflow_id(world.fleet.keys[number]))


async def into_stage(world: World, stage: str) -> None:
    """Bring the VM of one job into a stage."""
    await world.submit(replicas=1)
    if stage == "Noticed":
        await world.running(1)
        world.notice(0, seconds=60)
    if stage == "Deleting":
        await world.running(1)
        await world.release_vm(world.fleet.keys[0])
    await world.until(lambda: world.stage() == stage, what=f"the VM is {stage}")


async def cancel(world: World) -> None:
    await vm(world).cancel()


async def terminate(world: World) -> None:
    """Terminate the workflow. The sweep comes a little later, and finds what the job could not know of."""
    await vm(world).terminate("by a person with the CLI")
    await world.pass_time(60)
    for name, instance in list(world.cloud.instances.items()):
        key = names.vm_key_of(name)
        if key == world.fleet.keys[0]:
            await world.fleet.adopt_orphan(start_of(world, key, f"{instance.zone}/{name}"))


def start_of(world: World, key: str, found: str) -> VmStart:
    """Make the input of a VM's workflow as the sweep knows the machine."""
    first = world.of("ensure_vm")[0].request
    return first.model_copy(update={"key": key, "found": [found], "teardown": True})


@pytest.mark.parametrize("asked", [cancel, terminate])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_job_goes_on_with_another_machine(
    world: World, stage: str, asked: Callable[[World], Awaitable[None]]
) -> None:
    await into_stage(world, stage)
    first = {name for name in world.cloud.instances if names.vm_key_of(name) == world.fleet.keys[0]}
    await asked(world)
    await world.until(lambda: world.active == 1 and not first & set(world.cloud.instances), within=3600)
    assert len(world.training()) == 1
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()
    assert (await memory(world)).bought == {}
