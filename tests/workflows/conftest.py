"""A world for each test, with a Temporal service of its own on virtual time of its own."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.simulation.simulation import Simulation
from tests.workflows.world import World
from workflows.job.policy import status_writes

logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # failures are part of the stories


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write each status at once, because stories wait for phases; ``test_actions`` has the time in between."""
    monkeypatch.setattr(status_writes, "QUIET", timedelta())


@pytest.fixture
async def idle_world() -> AsyncIterator[World]:
    """Make a world without a worker, for a test that brings its own."""
    return World(Simulation(pydantic_data_converter))


@pytest.fixture
async def world(idle_world: World) -> AsyncIterator[World]:
    """Make a world in which nothing has happened yet."""
    async with idle_world.worker():
        yield idle_world
    if idle_world.mistakes:
        raise idle_world.mistakes[0]
    assert not idle_world.documents.unlisted_reasons, "api/reasons.py does not list them"
