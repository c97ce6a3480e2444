"""``python -m tests.bench.crowd.floor_worker``: the worker of the floor, a process of its own as Outlast's is.

Its workflows do the least that the two measurements ask of any product: one waits for a signal and then makes one call
of the API server by an activity; the other makes so many actions, each an activity with one such call.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from clients.kube import Kube, connect, path

QUEUE = "floor"
NAMESPACE = "floor"
CACHED = 20_000
PATIENCE = timedelta(minutes=1)


@workflow.defn(sandboxed=False)
class Notice:
    """Waits for a signal, then creates an object of a CheckpointBackup's size."""

    def __init__(self) -> None:
        self.noticed = False

    @workflow.signal
    def notice(self) -> None:
        self.noticed = True

    @workflow.run
    async def run(self, name: str) -> None:
        await workflow.wait_condition(lambda: self.noticed)
        await workflow.execute_activity("create", name, start_to_close_timeout=PATIENCE)


@workflow.defn(sandboxed=False)
class Actions:
    """Makes so many actions, its own start included, one after the other."""

    @workflow.run
    async def run(self, actions: int) -> None:
        for _ in range(actions - 1):
            await workflow.execute_activity("read", start_to_close_timeout=PATIENCE)


class Calls:
    """The activities: one call of the API server each."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn
    async def create(self, name: str) -> None:
        body = {"metadata": {"name": name}, "data": {"text": "x" * 1500}}
        await self._kube.create(path("v1", "configmaps", NAMESPACE), body)

    @activity.defn
    async def read(self) -> None:
        await self._kube.get(path("v1", "namespaces", name=NAMESPACE))


async def _main(temporal: str, kubeconfig: str) -> None:
    client = await Client.connect(temporal)
    async with await connect(kubeconfig) as kube:
        calls = Calls(kube)
        await Worker(
            client,
            task_queue=QUEUE,
            workflows=[Notice, Actions],
            activities=[calls.create, calls.read],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=CACHED,
        ).run()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
