"""A world for each test, with a Temporal service of its own on virtual time of its own."""

import logging
from collections.abc import AsyncIterator

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.simulation.simulation import Simulation
from tests.workflows.world import World

logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # failures are part of the stories


@pytest.fixture
async def idle_world() -> AsyncIterator[World]:
    """A world without a worker: the test brings its own."""
    return World(Simulation(pydantic_data_converter))


@pytest.fixture
async def world(idle_world: World) -> AsyncIterator[World]:
    """A world in which nothing has happened yet."""
    async with idle_world.worker():
        yield idle_world
    if idle_world.mistakes:
        raise idle_world.mistakes[0]
