"""A world for each test, with a worker of its own on a virtual clock of its own."""

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows.world import World

logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)  # failures are part of the stories
TEST_SERVER = Path(sys.executable).parent / "temporal-test-server"


@pytest.fixture
async def idle_world() -> AsyncIterator[World]:
    """A world without a worker: the test brings its own."""
    env = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), data_converter=pydantic_data_converter
    )
    async with env:
        yield World(env)


@pytest.fixture
async def world(idle_world: World) -> AsyncIterator[World]:
    """A world in which nothing has happened yet."""
    async with idle_world.worker():
        yield idle_world
    if idle_world.mistakes:
        raise idle_world.mistakes[0]
