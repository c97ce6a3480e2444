"""docs/uninstalling.md, followed to the letter while a job trains: nothing of Outlast is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.alone.pages import environment_of, follow, left, no_vm, steps, typed, zero
from tests.e2e.conftest import ENVIRONMENT, SPEED
from tests.e2e.rig import Rig, why_not

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


@pytest_asyncio.fixture(loop_scope="session")
async def rig(executables: Any, tmp_path: Path) -> Any:
    """Bring up a cloud that nobody needs afterwards."""
    if reason := why_not():
        pytest.skip(reason)
    made = Rig(tmp_path / "cloud", SPEED, ENVIRONMENT)
    await made.up()
    yield made
    await made.down()


@pytest.fixture
def environment(rig: Rig, tmp_path: Path) -> dict[str, str]:
    return environment_of(rig, tmp_path / "bin")


async def test_nothing_is_left_after_the_page(rig: Rig, environment: dict[str, str]) -> None:
    namespace = await rig.namespace()
    job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
    vm = job.vm(0)
    assert vm in [each["name"] for each in rig.observer.vms]
    assert {found.partition("/")[0] for found in await left(environment)} >= {"Node", "Job", "ClusterRole"}
    await follow(rig, steps(), environment)
    await no_vm(rig)
    assert await left(environment) == []
    await zero("""temporal workflow count --query "ExecutionStatus = 'Running'" """, environment)
    schedules = json.loads(await typed("temporal schedule list --output json", environment) or "[]")
    assert schedules == []


async def test_crds_that_are_deleted_first_take_the_trainings_down(rig: Rig, environment: dict[str, str]) -> None:
    await rig.start(await rig.namespace(), rig.job(replicas=1, interval="1h"))
    await typed("kubectl delete -k deploy/crd --wait=false", environment)
    await no_vm(rig)
    await typed("kubectl wait --for=delete --timeout=200s -f deploy/crd", environment)
