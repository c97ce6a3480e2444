"""The deploy step on Temporal's real dev server: what it sets up in a fresh installation, and what it leaves alone."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from temporalio.common import WorkerDeploymentVersion

from sandbox.binaries import Binaries
from tests.workflows.dev_server import quick_world
from tests.workflows.temporal_cli import Cli
from tests.workflows.versions import DEPLOYMENT, make_current, worker
from tests.workflows.world import World
from worker import setup
from worker.setup import ensure_current
from worker.versions import standing


@pytest.fixture
async def real(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Make a quick world without a worker."""
    monkeypatch.setattr(setup, "EVERY", 0.1)
    async with quick_world(executables, monkeypatch) as made:
        yield made


@pytest.fixture
def cli(real: World, executables: Binaries) -> Cli:
    """Make the Temporal CLI."""
    return Cli(executables.temporal, real.env.client)


def version(build: str) -> WorkerDeploymentVersion:
    return WorkerDeploymentVersion(DEPLOYMENT, build)


async def current(real: World) -> str:
    return (await standing(real.env.client, version("0"))).current


async def test_a_fresh_installation_starts_nothing_before_this_and_everything_after(real: World) -> None:
    async with worker(real, "0.2.0"):
        await real.submit(replicas=1)
        await real.pass_time(3)
        assert real.calls == []
        await ensure_current(real.env.client, version("0.2.0"), deadline=200)
        await real.running(1, within=60)


async def test_it_waits_for_the_worker(real: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "worker.setup"):
        waiting = asyncio.create_task(ensure_current(real.env.client, version("0.2.0"), deadline=200))
        await asyncio.sleep(1)
        assert not waiting.done()
        async with worker(real, "0.2.0"):
            await waiting
    told = "waiting for a worker of this version to poll workflows of outlast, activities of outlast, activities of"
    assert told in caplog.messages[0]
    assert caplog.messages[-1] == "version 0.2.0 is current from now on, after none"


async def test_without_a_worker_it_ends_and_says_what_it_waited_for(real: World) -> None:
    with pytest.raises(
        TimeoutError, match=r"within 1 s: still waiting for a worker .* kubectl get pods -A -l .*=0\.2\.0"
    ):
        await ensure_current(real.env.client, version("0.2.0"), deadline=1)


async def test_it_goes_forward_once_and_never_back(real: World, cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    async with worker(real, "0.1.0"), worker(real, "0.2.0"):
        for build in ("0.1.0", "0.1.0", "0.2.0", "0.2.0"):
            await ensure_current(real.env.client, version(build), deadline=200)
            assert await current(real) == build
        await ensure_current(real.env.client, version("0.1.0"), deadline=200)
        assert await current(real) == "0.2.0", "the Job of the older release was applied again"
        assert "0.1.0 is not made current, because it was current before" in caplog.text
        await make_current(cli, "0.1.0")
        await ensure_current(real.env.client, version("0.2.0"), deadline=200)
        assert await current(real) == "0.1.0", "a person went back"
        async with worker(real, "0.0.9"):
            await ensure_current(real.env.client, version("0.0.9"), deadline=200)
        assert await current(real) == "0.1.0", "an older release that was never current"
