"""One cloud with Outlast for all end-to-end tests, each of which works in a namespace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sandbox.demo.observe import Observer
from tests.e2e.rig import Rig, why_not

SPEED = 20.0
REAL_UP_SECONDS = 900.0  # for who runs pytest by hand, and builds now
#: Seconds; beside a training of some seconds the real ones would be long (`api/timings.py`).
TIMINGS = {
    "SCHEDULE_WAIT": 3,
    "VERDICT_DELAY": 3,
    "STOCKOUT_REST": 5,
    "SPOT_RETURN": 8,
    "POD_STOP": 10,
    "RETRY": 1,
    "OWNER_CHECK": 15,
    "DRAIN": 10,
    "RESYNC": 60,
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rig(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The cloud; nothing of any test may be left in it at the end."""
    if reason := why_not():
        pytest.skip(reason)
    environment = {f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()}
    made = Rig(tmp_path_factory.mktemp("e2e") / "cloud", SPEED, environment)
    try:
        await made.up()
        yield made
        await made.until(lambda: not _left(made.observer), 60, "every test's VMs and Nodes to be gone")
    finally:
        await made.down()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A cloud whose VMs are machines; `make test` builds their disks before."""
    environment = {f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()}
    made = Rig(tmp_path_factory.mktemp("real") / "cloud", SPEED, environment, machines="real")
    try:
        await made.up(REAL_UP_SECONDS)
        yield made
    finally:
        await made.down()


def _left(observer: Observer) -> list[str]:
    return [vm["name"] for vm in observer.vms] + [node["metadata"]["name"] for node in observer.all("nodes")]


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(rig: Rig) -> AsyncIterator[str]:
    """A namespace that is deleted at the end, with whatever the test has left in it."""
    name = await rig.namespace()
    yield name
    await rig.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
