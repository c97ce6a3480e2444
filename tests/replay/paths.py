"""Short stories on Temporal's real dev server, each of a path that the demo's story does not take.

The service and its histories are real. Machines and pods are those of the workflow tests, so a story takes seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from temporalio.client import WorkflowHistory

from sandbox.binaries import Binaries
from tests.workflows import test_application, test_market
from tests.workflows.dev_server import TIMINGS, quick_world
from tests.workflows.documents import VM_SPEC, vm_spec
from tests.workflows.world import World

SECONDS = 90.0  # for each step
AFTER = {"onDemandFallback": {"after": "2s", "maxReplicas": 1}}


async def held(world: World) -> None:
    """Let the only image start on no node, until a person lets the replica start from the beginning."""
    await _checkpointed(world, replicas=1)
    assert world.checkpoints.history[0].image is not None
    world.cluster.bad[world.checkpoints.history[0].image] = "CreateContainerError: CRIU refused"
    world.notice(0, seconds=1)
    await world.until(lambda: (c := world.documents.condition("Restorable")) and c.status == "False", SECONDS)
    world.documents.edit(checkpoint={"on_unrestorable": "ColdStart"})
    await world.running(1, SECONDS)


async def suspended(world: World) -> None:
    """Suspend the job, resume it from the checkpoint, scale it up and down, and finish."""
    await _checkpointed(world, replicas=1)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended", SECONDS)
    await world.signal("resume")
    await world.running(1, SECONDS)
    world.documents.edit(replicas=2)
    await world.running(2, SECONDS)
    world.documents.edit(replicas=1)
    await world.running(1, SECONDS)
    world.cluster.end_pod(world.cluster.training()[0], 0)


async def on_demand(world: World) -> None:
    """Buy on-demand after a wait for spot capacity, and return to spot by a checkpoint once there is some."""
    world.documents.timings = TIMINGS.model_copy(update={"spot_return": 3, "stockout_rest": 1})
    world.documents.vm_spec = vm_spec(more=AFTER)
    world.cloud.exhausted = {test_market.spot("us-central1-a")}
    await world.submit(replicas=1)
    await world.running(1, SECONDS)
    world.cloud.exhausted = set()
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1, SECONDS)


async def application(world: World) -> None:
    """Let the training save itself on a notice, and continue from what it saved."""
    await test_application.training(world)
    await world.pass_time(2)
    world.notice(0, seconds=2)
    await test_application.again(world, within=SECONDS)


async def rescued(world: World) -> None:
    """Checkpoint the dying replica itself within two minutes of notice."""
    gcp = VM_SPEC.gcp.model_copy(update={"preemption_notice_duration": "120s"})
    world.documents.vm_spec = VM_SPEC.model_copy(update={"gcp": gcp})
    await _checkpointed(world, replicas=1)
    world.notice(0, seconds=120)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1, SECONDS)


async def failing(world: World) -> None:
    """Let the training fail by itself, until its restarts are used up."""
    await world.submit(replicas=1, maxRestarts=1)
    for incarnation in (0, 1):
        await world.until(lambda n=incarnation: world.training() == [(0, n)], SECONDS)  # type: ignore[misc]
        world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.documents.told("Failed"), SECONDS)


async def deleted_in_recovery(world: World) -> None:
    """Delete the object while both replicas recover."""
    await _checkpointed(world, replicas=2)
    for replica in (0, 1):
        world.notice(replica, seconds=1)
    await world.until(lambda: world.active == 0, SECONDS)


async def cancelled(world: World) -> None:
    """Cancel the workflow, as a person does from the CLI."""
    await world.submit(replicas=1)
    await world.running(1, SECONDS)
    await world.handle.cancel()


async def requested(world: World) -> None:
    """Request a checkpoint by an update and by the annotation, then send signals that make no sense."""
    await world.submit(replicas=1)
    await world.running(1, SECONDS)
    await world.handle.execute_update("checkpoint_now")
    world.documents.ask("checkpoint-now 1")
    await world.until(lambda: (r := world.documents.status.request) is not None and r.state == "Done", SECONDS)
    for name in ("suspnd", "resize"):
        await world.signal(name)
    await world.until(lambda: len(world.documents.told("OrderNotUnderstood")) == 2, SECONDS)


PATHS: dict[str, Callable[[World], Awaitable[None]]] = {
    "job-application": application,
    "job-cancelled": cancelled,
    "job-deleted-in-recovery": deleted_in_recovery,
    "job-failing": failing,
    "job-held": held,
    "job-on-demand": on_demand,
    "job-requested": requested,
    "job-rescued": rescued,
    "job-suspended": suspended,
}


async def histories(executables: Binaries) -> AsyncIterator[tuple[str, WorkflowHistory]]:
    """Collect the history of each path's job, from its beginning to its end."""
    for name, story in PATHS.items():
        with pytest.MonkeyPatch.context() as patch:
            async with quick_world(executables, patch) as world, world.worker():
                await story(world)
                if not world.documents.condition("Failed"):
                    await world.delete()
                await world.until(lambda w=world: w.documents.released, SECONDS, "the finalizers to go")  # type: ignore[misc]
                await world.handle.result()
                yield name, await world.handle.fetch_history()


async def _checkpointed(world: World, *, replicas: int) -> None:
    await world.submit(replicas=replicas)
    await world.running(replicas, SECONDS)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.documents.told("CheckpointCompleted"), SECONDS)
