"""A cloud for the tests here, one after the other: they kill what all use, or let everything fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.conftest import ENVIRONMENT, SPEED, nothing_left
from tests.e2e.rig import Rig, why_not


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def rig(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """In place of the one that all share."""
    if reason := why_not():
        pytest.skip(reason)
    made = Rig(tmp_path_factory.mktemp("alone") / "cloud", SPEED, ENVIRONMENT)
    await made.up()
    yield made
    try:
        await nothing_left(made)
    finally:
        await made.down()
