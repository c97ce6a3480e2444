"""The stage of a crowd: one sandbox with Outlast, whose nodes and kubelets are played."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from api import names
from clients.kube import path
from sandbox.cloud import Cloud
from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient
from sandbox.processes import Process
from sandbox.settings import Settings
from tests.bench.crowd import manifests
from tests.bench.crowd.players import Players

T = TypeVar("T")

NAMESPACE = "crowd"
NODES = "gpu-"
MACHINE = "t4"
AT_ONCE = 60
ATTEMPTS = 30
PAUSE = 0.5
WARM_SECONDS = 180.0
MEASURING = "measuring"
"""The name under which this process's own time is counted: it marks, watches and plays kubelets."""


class Stage:
    """Everything that a measurement needs."""

    def __init__(self, cloud: Cloud, kube: KubeClient, temporal: Client) -> None:
        self.cloud, self.kube, self.temporal = cloud, kube, temporal
        self.players = Players(kube, NAMESPACE, NODES)
        self.bridge = cloud.processes["bridge"]
        self.others: dict[str, Process] = {}
        """Child processes that are not the cloud's, by name."""
        self._nodes = 0

    async def prepare(self) -> None:
        """Make the namespace, what jobs name, and one job, so that all code is loaded.

        The zone has no capacity, as when all of its spot VMs are preempted: whoever loses a node looks for another one
        in vain. VMs that join would share this process, which has to see when things happen.
        """
        assert self.cloud.gce
        self.cloud.gce.faults.exhaust(manifests.ZONE, at_once=True)
        await self.kube.create(path("v1", "namespaces"), {"metadata": {"name": NAMESPACE}})
        await insist(lambda: self.kube.create(path("v1", "secrets", NAMESPACE), manifests.CREDENTIALS))
        await self.machine(MACHINE)
        self.players.start()
        await self.nodes(2)
        await self.jobs(["warm"])
        await self.until(lambda: self.players.running() >= 2, WARM_SECONDS, "one job to run")

    async def machine(self, name: str, zone: str = manifests.ZONE) -> None:
        """Make a SpotInstanceVM."""
        where = path(names.API_VERSION, names.VM_PLURAL, NAMESPACE)
        await self.kube.create(where, manifests.machine(name, zone))

    async def nodes(self, count: int) -> None:
        """Add so many Ready nodes with a free GPU."""
        added = [f"{NODES}{number:06}" for number in range(self._nodes, self._nodes + count)]
        self._nodes += count

        async def add(name: str) -> None:
            try:
                await self.kube.create(path("v1", "nodes"), manifests.node(name))
            except ApiError as error:
                if error.status != 409:
                    raise
            await self.kube.patch(path("v1", "nodes", name=name, sub="status"), manifests.node_status())
            # A node registers with the taint not-ready, which its controller would remove at its own pace.
            await self.kube.patch(path("v1", "nodes", name=name), {"spec": {"taints": None}})

        await every(added, add)

    async def cordon_free_ones(self) -> None:
        """Close each node that runs no pod, so that no GPU of the cluster is free."""
        taken = {pod.node for pod in self.players.pods.values()}
        free = {f"{NODES}{number:06}" for number in range(self._nodes)} - taken
        await every(
            free, lambda name: self.kube.patch(path("v1", "nodes", name=name), {"spec": {"unschedulable": True}})
        )

    async def jobs(self, called: Iterable[str], machine: str = MACHINE, replicas: int = 2) -> None:
        """Create these jobs."""
        assert self.cloud.registry
        registry, where = self.cloud.registry.address, path(names.API_VERSION, names.JOB_PLURAL, NAMESPACE)

        async def create(name: str) -> None:
            try:
                await self.kube.create(where, manifests.job(name, machine, registry, replicas))
            except ApiError as error:
                if error.status != 409:
                    raise

        await every(called, create, at_once=20)

    async def mark(self, node: str) -> float:
        """Mark a node as the node agent does when the cloud takes its machine; return when that was accepted."""
        taint = {"key": names.TAINT_PREEMPTED, "effect": "NoSchedule", "value": ""}
        await self.kube.patch(path("v1", "nodes", name=node), {"spec": {"taints": [taint]}})
        return time.monotonic()

    async def until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Wait until ``condition`` is true; return the seconds that took.

        Raises:
            TimeoutError: it was not true within ``seconds``.
        """
        began = said = time.monotonic()
        while not condition():
            now = time.monotonic()
            if now - began > seconds:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            if now - said > 20:
                said = now
                say(f"… {what} ({now - began:.0f} s; {self.players.running()} pods run)")
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def stop_outlast(self) -> None:
        """Stop Outlast's processes, the bridge that runs now included."""
        assert self.cloud.product
        await asyncio.gather(self.cloud.product.stop(), self.bridge.stop())

    def memory(self) -> dict[str, float]:
        """Read the resident memory of each child process, in MiB."""
        return {name: _resident(process.pid) for name, process in self.cloud.processes.items() if process.pid}

    def spent(self) -> Counter[str]:
        """Read the milliseconds of a processor that this process and each of its children have used."""
        running = {**self.cloud.processes, **self.others}
        used = {name: _milliseconds(process.pid) for name, process in running.items() if process.pid}
        return Counter({**used, MEASURING: round(1000 * time.process_time())})


@asynccontextmanager
async def stage(directory: Path, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """Bring up a sandbox with Outlast, ready for a crowd, for as long as the block runs."""
    settings = Settings(
        state_dir=directory,
        product=True,
        node_monitor_grace_period=360_000,  # nobody renews the nodes' Leases
        product_env=environment,
    )
    async with Cloud(settings, progress=lambda _: None) as cloud:
        assert cloud.operator
        assert cloud.temporal
        await cloud.operator.stop()
        kube = KubeClient.from_kubeconfig(settings.admin_kubeconfig)
        temporal = await Client.connect(cloud.temporal.address, data_converter=pydantic_data_converter)
        made = Stage(cloud, kube, temporal)
        try:
            await made.prepare()
            yield made
        finally:
            await made.players.stop()
            await kube.close()


async def every(items: Iterable[T], work: Callable[[T], Awaitable[object]], at_once: int = AT_ONCE) -> None:
    """Do the work for all items, some of them at once."""
    waiting = iter(items)

    async def some() -> None:
        for item in waiting:
            await insist(lambda item=item: work(item))  # type: ignore[misc]

    await asyncio.gather(*(some() for _ in range(at_once)))


async def insist(work: Callable[[], Awaitable[object]]) -> None:
    """Repeat what a busy server does not answer."""
    for _ in range(ATTEMPTS):
        try:
            await work()
        except (ApiError, RPCError, *UNREACHABLE):
            await asyncio.sleep(PAUSE)
        else:
            return
    await work()


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _milliseconds(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(after_name[11]) + int(after_name[12])) // os.sysconf("SC_CLK_TCK")
