"""Whether this worker's version is the current one: polled, and shown by a metric, the log and `/readyz`.

A worker with another version is well and ready, or no rollout would ever end. But it gets no new work, and on a fresh
installation nothing happens at all. So it says so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from temporalio.common import MetricMeter, WorkerDeploymentVersion
from temporalio.service import RPCError

from api import metrics
from clients.background import beside
from worker.versions import Standing, how_to_make_current

log = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two polls

Look = Callable[[], Awaitable[Standing]]


class Currency:
    """Polls every ``every`` seconds."""

    def __init__(
        self, version: WorkerDeploymentVersion, look: Look, meter: MetricMeter, *, every: float = EVERY
    ) -> None:
        self._version = version
        self._look = look
        self._every = every
        self._standing: Standing | None = None
        self._gauge = meter.create_gauge(*metrics.VERSION_CURRENT.made_by)

    @property
    def notes(self) -> list[str]:
        """Give one line if the version is not current, as far as known."""
        found = self._standing
        if found is None or found.is_current:
            return []
        if not found.current:
            return [f"version {self._version.build_id} is not current, nor any other: new work waits"]
        return [f"version {self._version.build_id} is not current: new work goes to {found.current}"]

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Poll for as long as the block runs."""
        async with beside(self._keep(), "version"):
            yield

    async def _keep(self) -> None:
        while True:
            try:
                found = await self._look()
            except RPCError as error:
                log.debug("Temporal does not say which version is current: %s", error)
            else:
                self._found(found)
            await asyncio.sleep(self._every)

    def _found(self, found: Standing) -> None:
        before, self._standing = self._standing, found
        self._gauge.set(int(found.is_current), {"version": self._version.build_id})
        if before is not None and before.current == found.current:
            return
        if found.is_current:
            log.info("version %s is current", self._version.build_id)
            return
        command = how_to_make_current(self._version)
        log.warning("%s. The Job outlast-setup makes a new version current, or a person: %s", *self.notes, command)
