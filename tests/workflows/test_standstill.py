"""Steps end at once and change nothing. Whatever the bug, the workflow pauses instead of running in a busy loop.

The simulated service fails a test if a workflow gets thousands of tasks at one moment.
"""

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from api import errors
from tests.workflows.world import World
from workflows.job.replica.placement import Placement
from workflows.vm.creating import Creating


async def nothing(*_: Any) -> None:
    """Change nothing, and wait for nothing."""


@pytest.mark.parametrize(("part", "step"), [(Placement, "look"), (Creating, "create")])
async def test_a_step_that_does_nothing_pauses(
    world: World, monkeypatch: pytest.MonkeyPatch, part: type, step: str
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(part, step, nothing)
        await world.submit(replicas=1)
        before = len(world.calls)
        await world.pass_time(3600)
        assert len(world.calls) - before < 100
        assert max(len(run.history.events) for run in world.env.runs()) < 600  # type: ignore[attr-defined]


async def test_a_joining_node_that_is_looked_at_often_is_no_standstill(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    assert "busy loop" not in caplog.text


@pytest.mark.parametrize("why", ["away", "forbidden"])
async def test_a_job_deleted_before_its_spec_could_be_read(world: World, why: str) -> None:
    if why == "away":
        world.down |= {"load_job", "report"}
    else:
        world.documents.load_job = forbidden  # type: ignore[method-assign]
    await world.submit(replicas=1)
    await world.pass_time(60)
    await world.delete()
    await world.pass_time(3 * 3600)
    assert len(world.of("load_job")) < 100
    assert sum(len(run.history.events) for run in world.env.runs()) < 3200  # type: ignore[attr-defined]


def forbidden(_: object) -> Any:
    raise ApplicationError("cannot get spotinstancejobs", type=errors.PERMISSION, non_retryable=True)


async def test_the_last_status_outlasts_an_outage_at_the_jobs_end(world: World) -> None:
    """The API server goes away for half an hour as the training ends."""
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(60)
    world.down |= {"report", "release_finalizers"}
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.pass_time(1800)
    world.down.clear()
    await world.ended()
    assert world.documents.condition("Completed").status == "True"
