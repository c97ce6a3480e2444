"""Requests by the ``temporal`` CLI on the real server: answered, or refused with the reason and an exit code."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from sandbox.binaries import Binaries
from tests.workflows.dev_server import quick_world
from tests.workflows.temporal_cli import Cli
from tests.workflows.world import RUNNER, World
from workflows.job.workflow import SpotInstanceJob


@pytest.fixture
async def real(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Make a quick world on a dev server of its own, in which one replica trains."""
    async with quick_world(executables, monkeypatch) as made, made.worker():
        await made.submit(replicas=1)
        await made.running(1, within=60)
        yield made


@pytest.fixture
def cli(real: World, executables: Binaries) -> Cli:
    """Make the Temporal CLI."""
    return Cli(executables.temporal, real.env.client)


def update(real: World, name: str, *rest: str) -> tuple[str, ...]:
    return ("workflow", "update", "execute", "--workflow-id", real.handle.id, "--name", name, *rest)


async def meanwhile(real: World, command: "asyncio.Future[str]") -> str:
    """Let the world go on until a command has ended."""
    while not command.done():
        await real.pass_time(0.2)
    return await command


async def answered(real: World, cli: Cli, name: str, *rest: str) -> str:
    """Make a request and return the answer."""
    command = asyncio.ensure_future(cli.run(*update(real, name, *rest), "--output", "json"))
    answer: str = json.loads(await meanwhile(real, command))["result"]
    return answer


async def refused(real: World, cli: Cli, name: str, *rest: str) -> str:
    """Make a request that is refused, and return what the CLI printed."""
    return await meanwhile(real, asyncio.ensure_future(cli.refused(*update(real, name, *rest))))


async def test_good_requests_are_answered(real: World, cli: Cli) -> None:
    assert (await answered(real, cli, "checkpoint_now")).startswith("checkpoint 1 at step ")
    assert await answered(real, cli, "resume") == "the job is not suspended"
    assert await answered(real, cli, "resize", "--input", '{"replicas": 2}') == "2 replicas running"
    assert (await answered(real, cli, "suspend")).startswith("2 replicas suspended, checkpoint ")
    assert real.documents.told("OrderNotUnderstood") == []
    replayer = Replayer(workflows=[SpotInstanceJob], workflow_runner=RUNNER, data_converter=pydantic_data_converter)
    await replayer.replay_workflow(await real.handle.fetch_history())


async def test_a_request_that_takes_longer_is_accepted_within_half_a_minute(real: World, cli: Cli) -> None:
    """There is no other machine."""
    real.down.add("create_vm")
    answer = await answered(real, cli, "preemption_notice", "--input", '{"replica": 0, "seconds": 60}')
    assert answer.startswith("accepted: waits for replica 0 (")


async def test_bad_requests_are_refused_with_the_reason(real: World, cli: Cli) -> None:
    for name, given, reason in (
        ("resize", ("--input", '{"replicas": 99}'), "replicas is 99, and has to be a whole number from 1 to 16"),
        ("resize", (), "replicas is missing: resize takes"),
        ("suspend", ("--input", '{"now": true}'), "suspend takes no input"),
        ("preemption_notice", ("--input", '{"replica": 5}'), "replica 5 does not exist: this job has replica 0"),
        ("suspnd", (), "known updates: [checkpoint_now preemption_notice resize resume suspend]"),
    ):
        assert reason in await refused(real, cli, name, *given)
    assert real.training() == [(0, 0)]


async def test_a_mistaken_signal_leaves_an_event(real: World, cli: Cli) -> None:
    for name, given in (("suspnd", ()), ("resize", ()), ("resize", ("--input", "3")), ("suspend", ("--input", "[1]"))):
        await cli.run("workflow", "signal", "--workflow-id", real.handle.id, "--name", name, *given)
    await real.until(lambda: len(real.documents.told("OrderNotUnderstood")) == 4, 30, "four Events")
    assert (await answered(real, cli, "checkpoint_now")).startswith("checkpoint 1 at step ")
