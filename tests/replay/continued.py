"""What runs hand to their successors: the states of a whole story, played on virtual time in short runs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from api import names
from tests.replay.releases import folder
from tests.simulation.simulation import Simulation
from tests.workflows.test_faults import story
from tests.workflows.world import World
from workflows.common import continue_as_new as history
from workflows.market import workflow as market

KINDS = {names.JOB_WORKFLOW: "job", names.VM_WORKFLOW: "vm", names.MARKET_WORKFLOW: "market"}
EVENTS = 120  # of a run


async def states() -> dict[str, Any]:
    """Return the fullest input of a continued run, for each kind of workflow."""
    simulation = Simulation(pydantic_data_converter)
    world = World(simulation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "EVENTS", EVENTS)
        patch.setattr(history, "EVENTS_IN_RECOVERY", EVENTS)
        patch.setattr(market, "IDLE", timedelta(minutes=5))  # its history stays short
        async with world.worker():
            await story(world)
    found: dict[str, bytes] = {}
    for run in simulation.runs():
        for event in run.history.events:
            continued = event.workflow_execution_continued_as_new_event_attributes
            if kind := KINDS.get(continued.workflow_type.name):
                found[kind] = max(found.get(kind, b""), continued.input.payloads[0].data, key=len)
    return {kind: json.loads(data) for kind, data in found.items()}


async def write(release: str) -> list[Path]:
    """Keep the states of the release to come.

    Raises:
        ReleasedError: it is out.
    """
    directory = folder("states", release)
    paths = []
    for kind, state in (await states()).items():
        path = directory / f"{kind}.json"
        path.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")
        paths.append(path)
    return paths
