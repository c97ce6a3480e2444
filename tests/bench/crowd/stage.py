"""The stage of a crowd: one sandbox with Outlast, whose nodes and kubelets are played."""

from __future__ import annotations

import asyncio
import contextlib
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
from sandbox.settings import Settings, TemporalService
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
        """Read the resident memory of the child processes in MiB, by kind."""
        found: Counter[str] = Counter()
        for kind, pid in self._running():
            found[kind] += _resident(pid)  # type: ignore[assignment]  # a Counter takes any number
        return dict(found)

    def spent(self) -> Counter[str]:
        """Read the milliseconds of a processor that this process and its children have used, by kind."""
        used = _milliseconds(pid for _, pid in self._running())
        found = Counter({MEASURING: round(1000 * time.process_time())})
        for kind, pid in self._running():
            found[kind] += used[pid]
        return found

    def _running(self) -> list[tuple[str, int]]:
        """List the child processes that run; ``worker`` and ``worker-2`` are of one kind."""
        children = {**self.cloud.processes, **self.others}
        return [(_kind(name), process.pid) for name, process in children.items() if process.pid]


@asynccontextmanager
async def stage(
    directory: Path, environment: dict[str, str], workers: int = 1, service: TemporalService = "development"
) -> AsyncIterator[Stage]:
    """Bring up a sandbox with Outlast, ready for a crowd, for as long as the block runs."""
    settings = Settings(
        state_dir=directory,
        product=True,
        node_monitor_grace_period=360_000,  # nobody renews the nodes' Leases
        product_env=environment,
        replicas=workers,
        temporal_service=service,
    )
    async with Cloud(settings, progress=lambda _: None) as cloud:
        assert cloud.operator
        assert cloud.temporal
        await cloud.operator.stop()
        await asyncio.gather(*(each.stop() for name, each in cloud.processes.items() if name.startswith("bridge-")))
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


def _kind(name: str) -> str:
    return name.rstrip("0123456789").removesuffix("-")


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _milliseconds(children: Iterable[int]) -> Counter[int]:
    """Add up the time of each child process and its own children: PostgreSQL has one for each connection."""
    wanted, ticks = set(children), Counter[int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            after_name = stat.read_text().rpartition(")")[2].split()
            parent, own = int(after_name[1]), sum(map(int, after_name[11:15]))  # with those of children that ended
            ticks.update({pid: own for pid in (int(stat.parent.name), parent) if pid in wanted})
    return Counter({pid: 1000 * count // os.sysconf("SC_CLK_TCK") for pid, count in ticks.items()})
