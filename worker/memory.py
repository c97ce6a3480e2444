"""What a worker remembers of the cluster: one watch for each kind, shared by all its activities."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from temporalio.common import MetricMeter

from activities.certificates.approver import REQUESTS
from activities.checkpoints.memory import RUNNING, UNDER_WAY
from activities.kubernetes.daemons import USUAL, DaemonNamespaces, Daemons
from activities.placement.activities import HOSTS, PLACED
from api import metrics
from clients.background import beside
from clients.informer import Informer
from clients.kube import Kube

REPORTED = 10.0  # seconds between two looks at what the metrics say


class Memory:
    """The memories of one worker. Until they are kept, each reader reads the API server."""

    def __init__(self, kube: Kube, meter: MetricMeter = MetricMeter.noop, daemons: DaemonNamespaces = USUAL) -> None:
        self.hosts = Informer(kube, HOSTS, meter)
        self.placed = Informer(kube, PLACED, meter)
        self.running = Informer(kube, RUNNING, meter)
        self.under_way = Informer(kube, UNDER_WAY, meter)
        self.requests = Informer(kube, REQUESTS, meter)
        self.daemons = Daemons(kube, meter, daemons)
        self._all: list[Informer[Any]] = [
            self.hosts, self.placed, self.running, self.under_way, self.requests, *self.daemons.informers
        ]  # fmt: skip
        self._current = meter.create_gauge(*metrics.MEMORY_CURRENT.made_by)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep them for as long as the block runs."""
        async with AsyncExitStack() as stack:
            for each in self._all:
                await stack.enter_async_context(beside(each.run(), f"memory of {each.kind.name}"))
            await stack.enter_async_context(beside(self._report(), "report on memories"))
            yield

    def marked(self) -> int:
        """Count the nodes that are about to go, as far as they are known."""
        return sum(host.leaves for host in self.hosts.known.items.values()) if self.hosts.current else 0

    @property
    def notes(self) -> list[str]:
        """List the memories that activities cannot use now: they read the API server instead, which takes longer."""
        return [f"the memory of {each.kind.name} is not current: activities list them" for each in self._outdated]

    @property
    def stuck(self) -> list[str]:
        """List the watches that do not even try."""
        return [f"the watch on {each.kind.name} stands still" for each in self._all if each.stuck]

    @property
    def _outdated(self) -> list[Informer[Any]]:
        return [each for each in self._all if not each.current and not each.missing]

    async def _report(self) -> None:
        while True:
            outdated = self._outdated
            for each in self._all:
                self._current.set(0 if each in outdated else 1, {"resource": each.kind.name})
            await asyncio.sleep(REPORTED)
