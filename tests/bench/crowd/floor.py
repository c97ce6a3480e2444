"""The floors of a run: what bare workflows take for the same, on the same servers, while Outlast is stopped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import WorkflowHandle

from clients.kube import path
from sandbox.processes import Process
from sandbox.product import REPOSITORY
from tests.bench.crowd.floor_worker import NAMESPACE, QUEUE, Actions, Notice
from tests.bench.crowd.notices import STORM_SECONDS, Answers
from tests.bench.crowd.stage import Stage, every

START_SECONDS = 7200.0
WORKER = "floor"
TASKS_PER_SECOND = 100.0
"""A slow guess of how fast the workflows come to the point at which they wait."""


@asynccontextmanager
async def bare(stage: Stage) -> AsyncIterator[None]:
    """Run the floor's worker instead of Outlast's processes, for as long as the block lasts."""
    assert stage.cloud.temporal
    settings = stage.cloud.settings
    command = [sys.executable, "-m", "tests.bench.crowd.floor_worker"]
    where = [stage.cloud.temporal.address, str(settings.admin_kubeconfig)]
    worker = Process(WORKER, [*command, *where], settings.state_dir, directory=REPOSITORY)
    await stage.kube.create(path("v1", "namespaces"), {"metadata": {"name": NAMESPACE}})
    await worker.start()
    stage.others[WORKER] = worker
    try:
        first = await stage.temporal.start_workflow(Actions.run, 2, id="floor-ready", task_queue=QUEUE)
        await asyncio.wait_for(first.result(), 60)
        yield
    finally:
        await worker.stop()


async def storm(stage: Stage, count: int) -> Answers:
    """Signal so many waiting workflows at once; seconds from each signal's acceptance to its object."""
    handles: dict[str, WorkflowHandle[Notice, None]] = {}
    signalled: dict[str, float] = {}
    seen: dict[str, float] = {}

    async def begin(name: str) -> None:
        handles[name] = await stage.temporal.start_workflow(Notice.run, name, id=name, task_queue=QUEUE)

    async def signal(name: str) -> None:
        await handles[name].signal(Notice.notice)
        signalled[name] = time.monotonic()

    async def watch() -> None:
        async for change in stage.kube.follow(path("v1", "configmaps", NAMESPACE)):
            for item in change.object if change.type == "SYNC" else [change.object]:
                seen.setdefault(item["metadata"]["name"], time.monotonic())

    names = [f"floor-{number:06}" for number in range(count)]
    await every(names, begin)
    await asyncio.sleep(3 + count / TASKS_PER_SECOND)
    watching = asyncio.create_task(watch())
    try:
        began, before = time.monotonic(), stage.spent()
        await every(names, signal)
        await stage.until(lambda: seen.keys() >= handles.keys(), STORM_SECONDS, f"the floor's {count} objects")
        spent = stage.spent() - before
    finally:
        watching.cancel()
    last = max(seen[name] for name in names) - began
    return Answers(count, [seen[name] - signalled[name] for name in names], last, 0, spent)


async def start(stage: Stage, count: int, actions: int) -> float:
    """Start so many workflows that make so many actions each; return the seconds until all have ended."""
    began = time.monotonic()
    handles: list[WorkflowHandle[Actions, None]] = []

    async def begin(number: int) -> None:
        name = f"actions-{number:06}"
        handles.append(await stage.temporal.start_workflow(Actions.run, actions, id=name, task_queue=QUEUE))

    await every(range(count), begin, at_once=20)
    async with asyncio.timeout(START_SECONDS):
        await every(handles, lambda handle: handle.result())
    return time.monotonic() - began
