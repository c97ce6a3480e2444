"""A cloud whose VMs are machines, for the tests here, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.conftest import ENVIRONMENT, SPEED
from tests.e2e.rig import Rig

UP_SECONDS = 900.0  # for those who run pytest by hand, and build now
# Seconds. kubeadm and a kubelet really start here, beside all other tests, and no test waits until these are over.
PATIENT = {"OUTLAST_TIMING_JOIN_DEADLINE": "600", "OUTLAST_TIMING_ROOM_DEADLINE": "120"}


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def real(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Bring up a cloud whose VMs are machines; `make test` builds their disks before."""
    made = Rig(tmp_path_factory.mktemp("real") / "cloud", SPEED, ENVIRONMENT | PATIENT, machines="real")
    try:
        await made.up(UP_SECONDS)
        yield made
    finally:
        await made.down()
