"""Whether Temporal and the API server answer: polled, and shown by a metric, the log and readiness.

No call waits for the result: whoever calls one of them finds out alone and retries. The poll makes an outage visible to
people, and what is in a long back-off is retried at once when the outage is over.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.service import RPCError, RPCStatusCode

from api import metrics, names
from clients.kube import FIRST_NAMESPACE, Kube

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two polls
DEADLINE = 5.0  # for one poll

Look = Callable[[], Awaitable[Any]]
"""Raises any exception if there is no answer."""


def looks(kube: Kube, temporal: Client) -> dict[str, Look]:
    """Poll both sides down to their stores: each poll reads one object."""
    return {
        "Kubernetes": lambda: kube.get(FIRST_NAMESPACE),
        "Temporal": lambda: _schedule(temporal),
    }


async def _schedule(temporal: Client) -> None:
    """Read the sweep's Schedule, which needs all parts of Temporal; before the first worker there is none."""
    try:
        await temporal.get_schedule_handle(names.SWEEP_SCHEDULE).describe(rpc_timeout=timedelta(seconds=DEADLINE))
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise


class Reach:
    """Polls each side every ``every`` seconds. ``back`` is called with the name of one that answers again."""

    def __init__(
        self,
        looks: Mapping[str, Look],
        meter: MetricMeter = MetricMeter.noop,
        *,
        every: float = EVERY,
        deadline: float = DEADLINE,
        back: Callable[[str], None] = lambda side: None,
    ) -> None:
        self._looks = looks
        self._every = every
        self._deadline = deadline
        self._back = back
        self._answered = dict.fromkeys(looks, time.monotonic())
        self._why: dict[str, str] = {}  # for each side that does not answer
        self._seconds = meter.create_gauge(*metrics.UNREACHABLE.made_by)

    @property
    def missing(self) -> list[str]:
        """List the sides that do not answer, since when, and why."""
        return [f"{side} has not answered for {self._silent(side):.0f} s: {why}" for side, why in self._why.items()]

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Poll for as long as the block runs."""
        tasks = [
            asyncio.create_task(self._keep(side, look), name=f"reach {side}") for side, look in self._looks.items()
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, side: str, look: Look) -> None:
        while True:
            try:
                await asyncio.wait_for(look(), self._deadline)
            except Exception as error:  # whatever it is, it is no answer
                self._lost(side, str(error) or type(error).__name__)
            else:
                self._found(side)
            self._seconds.set(round(self._silent(side)) if side in self._why else 0, {"side": side})
            await asyncio.sleep(self._every)

    def _lost(self, side: str, why: str) -> None:
        if side not in self._why:
            log.warning("%s does not answer: %s; what needs it waits", side, why)
        self._why[side] = why

    def _found(self, side: str) -> None:
        if self._why.pop(side, None) is not None:
            log.warning("%s answers again, after %.0f s", side, self._silent(side))
            self._back(side)
        self._answered[side] = time.monotonic()

    def _silent(self, side: str) -> float:
        return time.monotonic() - self._answered[side]
