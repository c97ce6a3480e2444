"""One cloud with Outlast for all end-to-end tests, each of which works in a namespace of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from xdist.scheduler import LoadScopeScheduling

from sandbox.demo.observe import Observer
from tests.e2e.rig import Rig, why_not
from tests.e2e.shared import SharedCloud

SPEED = 20.0
REAL_UP_SECONDS = 900.0  # for who runs pytest by hand, and builds now
#: Seconds; beside a training of some seconds the real ones would be long (`api/timings.py`).
TIMINGS = {
    "SCHEDULE_WAIT": 3,
    "VERDICT_DELAY": 3,
    "STOCKOUT_REST": 5,
    "JOIN_DEADLINE": 60,
    "SPOT_RETURN": 8,
    "POD_STOP": 10,
    "RETRY": 1,
    "OWNER_CHECK": 15,
    "DRAIN": 10,
    "RESYNC": 60,
}
ALONE = Path(__file__).parent / "alone"
ENVIRONMENT = {f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()}


class ByCloud(LoadScopeScheduling):
    """Gives files to processes as a whole, and all that need a cloud of their own to one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return ALONE.name if ALONE in (ALONE.parents[2] / file).parents else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCloud:
    """What ``--dist loadgroup`` of this xdist would do, were it not that this pytest ignores its names."""
    return ByCloud(config, log)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rig(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The cloud that all tests share, in whichever process; nothing of any may be left in it at the end."""
    if reason := why_not():
        pytest.skip(reason)
    whole_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        whole_run = whole_run.parent
    cloud = SharedCloud(Rig(whole_run / "e2e" / "cloud", SPEED, ENVIRONMENT))
    await cloud.enter()
    yield cloud.rig
    await cloud.leave(nothing_left)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A cloud whose VMs are machines; `make test` builds their disks before."""
    made = Rig(tmp_path_factory.mktemp("real") / "cloud", SPEED, ENVIRONMENT, machines="real")
    try:
        await made.up(REAL_UP_SECONDS)
        yield made
    finally:
        await made.down()


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(rig: Rig) -> AsyncIterator[str]:
    """A namespace that is deleted at the end, with whatever the test has left in it."""
    name = await rig.namespace()
    yield name
    await rig.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


async def nothing_left(rig: Rig) -> None:
    await rig.until(lambda: not _left(rig.observer), 60, "every test's VMs and Nodes to be gone")


def _left(observer: Observer) -> list[str]:
    return [vm["name"] for vm in observer.vms] + [node["metadata"]["name"] for node in observer.all("nodes")]
