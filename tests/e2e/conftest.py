"""One cloud with Outlast for all end-to-end tests, each of which has a namespace of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sandbox.demo.observer import Observer
from tests.e2e.rig import Rig, why_not
from tests.e2e.shared import SharedCloud

SPEED = 20.0
# Seconds. Beside a training of some seconds the real ones would be long (`api/timings.py`).
TIMINGS = {
    "SCHEDULE_WAIT": 3,
    "ROOM_DEADLINE": 20,
    "VERDICT_DELAY": 3,
    "STOCKOUT_REST": 15,  # longer than an attempt takes on a busy machine, because nothing in cooldown is tried
    "JOIN_DEADLINE": 100,  # a slow join has to fit in, and one test waits until it is over
    "SPOT_RETURN": 8,
    "POD_STOP": 10,
    "RETRY": 1,
    "OWNER_CHECK": 15,
    "DRAIN": 10,
    "RESYNC": 60,
    "RECHECK": 15,
}
ENVIRONMENT = {f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()}


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def rig(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Use the cloud that the tests here share, in any process. At the end nobody may have left anything in it."""
    if reason := why_not():
        pytest.skip(reason)
    whole_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        whole_run = whole_run.parent
    cloud = SharedCloud(Rig(whole_run / "e2e" / "cloud", SPEED, ENVIRONMENT))
    await cloud.enter()
    yield cloud.rig
    await cloud.leave(nothing_left)


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(rig: Rig) -> AsyncIterator[str]:
    """Make a namespace that is deleted at the end, with whatever the test has left in it."""
    name = await rig.namespace()
    yield name
    await rig.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


async def nothing_left(rig: Rig) -> None:
    await rig.until(lambda: not _left(rig.observer), 60, "every test's VMs and Nodes to be gone")


def _left(observer: Observer) -> list[str]:
    return [vm["name"] for vm in observer.vms] + [node["metadata"]["name"] for node in observer.all("nodes")]
