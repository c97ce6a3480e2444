"""A cloud for the tests here, one after the other: they kill what all use, or let everything fail.

What its Temporal stores is encrypted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.alone.keys import Codec, new_key
from tests.e2e.conftest import ENVIRONMENT, SPEED, nothing_left
from tests.e2e.rig import Rig, why_not


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the file of keys, which worker and bridge read when they start."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(new_key("old"))
    return file


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def rig(executables: Any, tmp_path_factory: pytest.TempPathFactory, keys: Path) -> AsyncIterator[Rig]:
    """Replace the cloud that all other tests share."""
    if reason := why_not():
        pytest.skip(reason)
    environment = {**ENVIRONMENT, "OUTLAST_PAYLOAD_KEYS_FILE": str(keys), "OUTLAST_TIMING_AGENT_DEADLINE": "15"}
    made = Rig(tmp_path_factory.mktemp("alone") / "cloud", SPEED, environment)
    await made.up()
    yield made
    try:
        await nothing_left(made)
    finally:
        await made.down()


@pytest_asyncio.fixture(loop_scope="session")
async def codec(rig: Rig, keys: Path) -> AsyncIterator[Codec]:
    """Start the codec server, and return the CLI that asks it."""
    made = Codec(keys, rig.addresses["TEMPORAL_ADDRESS"])
    await made.start()
    yield made
    await made.stop()
