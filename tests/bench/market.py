"""`python -m tests.bench.market 1000`: so many VMs ask one market at once; writes docs/benchmarks.md.

Workflows that wait are all woken by a signal. Each asks by the product's own activity, of one market, what to buy. Then
the same without a market, on the same server: in *bare* each makes one activity that does nothing, and in *signals*
each asks another workflow by a signal and is answered by one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import signatures as act
from activities.temporal.market import MarketActivities
from api import names
from api.market import Candidate, Choose, Price
from api.timings import Timings
from sandbox.binaries import ensure
from tests.bench.crowd.actions import counted
from tests.bench.page import percentile, where, write
from tests.bench.program import run
from tests.temporal_service import own_service
from workflows.common.calls import call
from workflows.market.workflow import SpotMarket

ASKERS = 1000
TABLE = "market"
PROJECT = "bench"
ONE = "one"
CANDIDATES = [Candidate(zone=f"us-central1-{zone}", machine_type="n1-standard-4") for zone in "abc"]
PATIENCE = timedelta(minutes=5)

answered: dict[str, float] = {}
"""When each asker was answered, by its workflow id; the worker is in this process."""


@activity.defn
async def nothing(asker: str) -> None:
    """The least that an activity can do."""


@activity.defn
async def read_price(read: act.ReadPrice) -> Price:
    """Answer for the cloud."""
    return Price(usd_per_hour=0.2)


class Waiting:
    """A workflow that waits for the signal to begin."""

    def __init__(self) -> None:
        self.woken = False

    @workflow.signal
    def begin(self) -> None:
        self.woken = True

    async def wake(self) -> None:
        await workflow.wait_condition(lambda: self.woken)


@workflow.defn(sandboxed=False)
class Asker(Waiting):
    """Asks the market, as a VM does."""

    @workflow.run
    async def run(self, number: int) -> None:
        await self.wake()
        key = names.vm_key(f"{number:08x}", 0, 1)
        question = Choose(asker=key, replica=number % 3, candidates=CANDIDATES, namespace="ml")
        request = act.AskMarket(project=PROJECT, timings=Timings(preempted_poll=0), question=question)
        choice = await call(act.ASK_MARKET, request, summary="what to buy?")
        assert choice.candidate
        answered[workflow.info().workflow_id] = time.monotonic()


@workflow.defn(sandboxed=False)
class Bare(Waiting):
    """Makes one activity that does nothing."""

    @workflow.run
    async def run(self, number: int) -> None:
        await self.wake()
        await workflow.execute_activity(nothing, str(number), start_to_close_timeout=PATIENCE)
        answered[workflow.info().workflow_id] = time.monotonic()


@workflow.defn(sandboxed=False)
class Signaller(Waiting):
    """Asks by a signal and is answered by one."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = False

    @workflow.signal
    def answers(self) -> None:
        self.answer = True

    @workflow.run
    async def run(self, number: int) -> None:
        await self.wake()
        await workflow.get_external_workflow_handle(ONE).signal("ask", workflow.info().workflow_id)
        await workflow.wait_condition(lambda: self.answer)
        answered[workflow.info().workflow_id] = time.monotonic()


@workflow.defn(sandboxed=False)
class One:
    """Answers each signal by a signal."""

    def __init__(self) -> None:
        self.asking: list[str] = []

    @workflow.signal
    def ask(self, asker: str) -> None:
        self.asking.append(asker)

    @workflow.run
    async def run(self) -> None:
        while True:
            await workflow.wait_condition(lambda: bool(self.asking))
            asking, self.asking = self.asking, []
            answers = [workflow.get_external_workflow_handle(asker).signal("answers") for asker in asking]
            await asyncio.gather(*answers)


def main() -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.market", description=__doc__)
    parser.add_argument("askers", type=int, nargs="?", default=ASKERS)
    parser.add_argument("--print", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    table = run(_measure(given.askers))
    print(table)
    if not given.print:
        write(TABLE, table)
    return 0


async def _measure(count: int) -> str:
    executables = await ensure()
    pragmas = ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
    async with own_service(executables, *pragmas) as client:
        market = MarketActivities(client)
        worker = Worker(
            client,
            task_queue=names.TASK_QUEUE,
            workflows=[Asker, Bare, Signaller, One, SpotMarket],
            activities=[nothing, read_price, market.ask_market],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=10 * count,
        )
        async with worker:
            await client.start_workflow(One.run, id=ONE, task_queue=names.TASK_QUEUE)
            bare = await _crowd(client, Bare.run, count)
            new = await _crowd(client, Asker.run, count)
            ours = await _crowd(client, Asker.run, count, since=count)
            signals = await _crowd(client, Signaller.run, count)
            history = await client.get_workflow_handle(names.market_workflow_id(PROJECT)).fetch_history()
        updates = counted(history.events)["update"]
    measured = {"bare": bare, "a new market": new, "a market that knows prices": ours, "signals": signals}
    return _table(count, measured, updates)


async def _crowd(client: Client, kind: Callable[..., Any], count: int, since: int = 0) -> list[float]:
    """Wake so many workflows at once; seconds from the first signal to each answer."""
    handles: list[WorkflowHandle[Any, Any]] = []
    for number in range(since, since + count):
        workflow_id = f"{kind.__qualname__}-{number}"
        handles.append(await client.start_workflow(kind, number, id=workflow_id, task_queue=names.TASK_QUEUE))
    await asyncio.sleep(count / 100)  # until all of them wait
    began = time.monotonic()
    await asyncio.gather(*(handle.signal("begin") for handle in handles))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await asyncio.gather(*(handle.result() for handle in handles))
    seconds = [answered[handle.id] - began for handle in handles]
    print(f"{kind.__qualname__}: the last after {max(seconds):.1f} s", flush=True)
    return seconds


def _table(count: int, measured: dict[str, list[float]], updates: int) -> str:
    floor = max(measured["bare"])
    rows = [
        f"| {name} | {percentile(seconds, 0.5):.1f} | {max(seconds):.1f} | {max(seconds) / floor:.1f} |"
        for name, seconds in measured.items()
    ]
    return "\n".join(
        [
            f"| {count} askers at once, seconds until | half are answered | all are | times bare |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"Both markets needed {updates} updates. {datetime.now(UTC):%Y-%m-%d}, on {where()}; "
            "`python -m tests.bench.market`.",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
