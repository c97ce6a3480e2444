"""A job trains for thirty days: nothing grows, nothing is forgotten, and nobody stops talking."""

import json
from collections.abc import AsyncIterator
from typing import cast

import pytest

from activities import signatures as act
from api import names
from api.messages import Resize
from api.timings import Timings
from tests.chaos.invariants import violations
from tests.chaos.ledger import Ledger
from tests.chaos.opening import opened
from tests.simulation.clock import BEGINNING
from tests.simulation.execution import Execution
from tests.simulation.simulation import Simulation
from tests.workflows import world as worlds
from tests.workflows.world import WORKFLOW_ID, World
from workflows.common import continue_as_new as history
from workflows.job.state import ledger

DAY = 86_400.0
DAYS = 30
BETWEEN_LOSSES = 41 * 3600.0  # of replica 0's machine; replica 1 keeps its own for the whole month
MOST_EVENTS = 8_000  # of one run
MOST_STATE = 18_000  # bytes


class Month:
    """The story, with a person who sends a signal whenever the job is about to continue as new."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.simulation = cast(Simulation, world.env)
        self.ledger = Ledger.of(world)
        self.sent = 0
        self._spoken_to: set[str] = set()
        self._write = world.documents.report

    async def go_on(self, seconds: float) -> None:
        """Play so much of it."""
        end = self.world.clock.now.timestamp() + seconds
        await self.world.until(lambda: self.world.clock.now.timestamp() >= end, seconds + DAY, "the time passes")

    def report(self, request: act.Report) -> act.Done:
        """Send a signal first: the job cannot continue as new before its own call has ended."""
        self._speak()
        return self._write(request)

    def _speak(self) -> None:
        run = self.simulation.find(WORKFLOW_ID)
        if run is not None and run.run_id not in self._spoken_to and len(run.history.events) >= history.EVENTS:
            self._spoken_to.add(run.run_id)
            self.world.bridge.tell(WORKFLOW_ID, "resize", Resize(replicas=2))
            self.sent += 1

    def runs(self, workflow_id: str) -> list[Execution]:
        """List all runs of a workflow."""
        return [run for run in self.simulation.runs() if run.id == workflow_id]


def state_bytes(run: Execution) -> int:
    """Measure what a run was continued with, without the records of its report, whose number bounds them."""
    started = run.history.events[0].workflow_execution_started_event_attributes
    given = json.loads(started.input.payloads[0].data)
    records = given["state"].pop("ledger")
    assert len(records["vms"]) <= ledger.KEPT
    assert len(records["incarnations"]) <= ledger.KEPT
    return len(json.dumps(given, separators=(",", ":")))


@pytest.fixture
async def month(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Month]:
    """Start two replicas with a checkpoint every six hours; the world is looked at more rarely than usual."""
    monkeypatch.setattr(worlds, "LONGEST_STEP", 3600.0)
    world = opened()
    world.cluster.steps = DAYS * DAY
    world.documents.timings = Timings(preempted_poll=0, resync=7200, owner_check=7200)
    told = Month(world)
    monkeypatch.setattr(world.documents, "report", told.report)
    async with world.worker():
        yield told


async def test_a_job_that_trains_for_thirty_days(month: Month) -> None:
    world = month.world
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "6h"})
    await world.running(2)
    losses = 0
    while world.clock.now.timestamp() + BETWEEN_LOSSES < BEGINNING.timestamp() + DAYS * DAY:
        await month.go_on(BETWEEN_LOSSES)
        if losses % 3 == 2:
            world.cloud.power_off(world.node_of(0))
        else:
            world.notice(0)
        losses += 1
        await world.until(lambda seen=losses: world.entry(0).incarnation == seen and world.active == 2)  # type: ignore[misc]
    world.cloud.power_off(world.node_of(1))  # its entity has had nothing to say for a month
    await world.until(lambda: world.entry(1).incarnation == 1 and world.active == 2)
    assert await world.ended(within=5 * DAY) == "Completed"

    jobs = month.runs(WORKFLOW_ID)
    oldest = month.runs(names.vm_workflow_id(names.vm_key(world.documents.start.job_id, 1, 1)))
    assert len(jobs) > 5
    assert len(oldest) > 1
    assert max(len(run.history.events) for run in month.simulation.runs()) < MOST_EVENTS
    sizes = [state_bytes(run) for run in jobs[1:]]
    assert max(sizes) < MOST_STATE
    assert max(sizes[-3:]) < 1.05 * max(sizes[:3])  # the last week knows no more than the first
    assert len(world.of("patch_spec")) == month.sent > 0
    assert [world.entry(0).preemptions, world.entry(0).restarts] == [losses, 0]
    assert violations(month.ledger) == []
