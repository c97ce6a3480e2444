"""A watch that lasts: list in pages, report everything, follow from the list's version on, and repeat forever.

It is level-triggered: every call of ``changed`` means "make it match this object", so a second call is harmless. A
connection that was reset is noticed by its silence, since the API server sends a bookmark every minute. What happened
while the watch was interrupted comes in order from where it stopped, or by a new list if the server no longer knows
that version (410).
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import aiohttp
from temporalio.common import MetricMeter

from api import metrics
from clients.kube import Json, Kube, KubeError, path

log = logging.getLogger(__name__)

Changed = Callable[[str, Json | None, int], None]
"""Called with the key ("namespace/name" or "name"), the object or None if it is gone, and its resourceVersion."""

FIRST_RETRY = 0.2
LAST_RETRY = 5.0  # a notice may come as soon as the server answers again
MISSING_RETRY = 10.0  # for a kind whose CRD is not installed
COUNTED = {
    "bridge": (metrics.BRIDGE_LISTS, metrics.BRIDGE_EVENTS),
    "worker": (metrics.WORKER_LISTS, metrics.WORKER_EVENTS),
}
"""How many full lists and changes a program has received."""
CUT_OFF = 5.0
"""Seconds without a connection after which what was reported is no longer the cluster's present state."""


@dataclass(frozen=True)
class Resource:
    """A kind of objects in the whole cluster, or those of them with a label or a field, or in one ``namespace``."""

    api_version: str
    plural: str
    selector: str = ""
    fields: str = ""
    namespace: str | None = None

    @property
    def path(self) -> str:
        """Give the collection's path at the API server."""
        return path(self.api_version, self.plural, self.namespace)

    @property
    def query(self) -> dict[str, str]:
        """Give the query that narrows it."""
        wanted = {"labelSelector": self.selector, "fieldSelector": self.fields}
        return {name: value for name, value in wanted.items() if value}


class Watch:
    """One kind, watched for as long as ``run`` runs. ``lasts`` and ``silence`` are in seconds.

    Its metrics say that the ``program`` watches, and ``name`` what (default: the resource).
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        changed: Changed,
        *,
        lasts: float = 300,
        silence: float = 70,
        meter: MetricMeter = MetricMeter.noop,
        program: Literal["bridge", "worker"] = "bridge",
        name: str = "",
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()  # set once the first list was reported
        self.position = 0
        """Everything up to this resourceVersion was reported."""
        self._kube = kube
        self._changed = changed
        self._lasts = lasts
        self._silence = silence
        self._known: set[str] = set()
        self._heard = self._moved = time.monotonic()
        self._open = asyncio.Event()  # the server has answered, and has not closed the connection
        self._closed_at = -CUT_OFF
        self.missing = False
        """True if the kind is not installed."""
        lists, events = COUNTED[program]
        self._lists = meter.create_counter(*lists.made_by)
        self._events = meter.create_counter(*events.made_by)
        self._which = {"resource": name or resource.plural}

    def missed(self, item: Json) -> None:
        """Report an object, and that it is gone, unless another of its name exists.

        For objects that were deleted before the first list.
        """
        key, version = key_of(item), int(item["metadata"]["resourceVersion"])
        if key not in self._known:
            self._tell(key, item, version)
            self._tell(key, None, version)

    @property
    def stale(self) -> bool:
        """True if nothing came for so long that something must be wrong on the way to the API server.

        A kind that is not installed is not stale, because nothing can come.
        """
        return not self.missing and time.monotonic() - self._heard > 2 * self._silence

    @property
    def current(self) -> bool:
        """True if what was reported is the cluster's state of a moment ago: the connection is open, or was just now.

        A connection that has broken without a word is noticed by the kernel's probes (``clients.kube.KEEPALIVE``).
        """
        return self.synced.is_set() and (self._open.is_set() or time.monotonic() - self._closed_at < CUT_OFF)

    async def becomes_current(self, within: float) -> bool:
        """Wait for at most ``within`` seconds; True as soon as it is current."""
        if not self.current and within > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._open.wait(), within)
        return self.current

    @property
    def stuck(self) -> bool:
        """True if it has not even tried for longer than any of its waits, which no outage can cause."""
        return time.monotonic() - self._moved > 2 * self._silence + MISSING_RETRY

    async def run(self) -> None:
        """Watch until cancelled."""
        version = ""
        failures = 0
        while True:
            self._moved = time.monotonic()
            try:
                version = version or await self._list()
                async with aclosing(self._follow(version)) as versions:
                    async for seen in versions:
                        version, failures = seen, 0
                # The server ended it in time. One that does so at once is not asked again without a pause.
                wait = 0 if failures == 0 else _back_off(failures)
            except KubeError as error:
                # 410: the server has forgotten what happened since. Any other refusal may concern this version, too.
                version = ""
                wait = self._refused(error, failures)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                wait = _back_off(failures)
                log.warning("%s: %s; again in %.1f s", self.resource.plural, error or type(error).__name__, wait)
            failures += 1
            await asyncio.sleep(wait)

    async def _list(self) -> str:
        """Report what exists, page by page, and then what is gone; return the version from which to continue."""
        self._lists.add(1, self._which)
        found: set[str] = set()
        version = ""
        async with aclosing(self._kube.pages(self.resource.path, **self.resource.query)) as pages:
            async for items, taken_at in pages:
                version = taken_at
                self._hear()
                for item in items:
                    found.add(key_of(item))
                    self._see(item, gone=False)
        for key in self._known - found:
            self._tell(key, None, int(version))
        self._known = found
        self.position = int(version)
        self.synced.set()
        return version

    async def _follow(self, version: str) -> AsyncGenerator[str, None]:
        """Report every change after ``version``; yield after each event the version from which to continue."""
        resource = self.resource
        events = self._kube.follow(
            resource.path, version, lasts=self._lasts, silence=self._silence, opened=self._answered, **resource.query
        )
        try:
            async with aclosing(events):
                async for event in events:
                    self._hear()
                    item = event["object"]
                    if event["type"] != "BOOKMARK":
                        self._see(item, gone=event["type"] == "DELETED")
                    self.position = int(item["metadata"]["resourceVersion"])
                    yield item["metadata"]["resourceVersion"]
        finally:
            if self._open.is_set():
                self._open.clear()
                self._closed_at = time.monotonic()

    def _answered(self) -> None:
        self._hear()
        self._open.set()

    def _see(self, item: Json, *, gone: bool) -> None:
        key = key_of(item)
        (self._known.discard if gone else self._known.add)(key)
        self._tell(key, None if gone else item, int(item["metadata"]["resourceVersion"]))

    def _hear(self) -> None:
        self._heard = self._moved = time.monotonic()
        self.missing = False

    def _tell(self, key: str, item: Json | None, version: int) -> None:
        self._events.add(1, self._which)
        try:
            self._changed(key, item, version)
        except Exception:  # one strange object must not hide all others
            log.exception("%s %s cannot be understood", self.resource.plural, key)

    def _refused(self, error: KubeError, failures: int) -> float:
        if error.status == 410:
            log.info("%s: too far behind, listing again", self.resource.plural)
            return 0 if failures == 0 else _back_off(failures)
        if error.status == 404:
            if not self.missing:
                log.warning("%s of %s are not installed, waiting for the CRD", *self._names())
            self.missing = True
            return MISSING_RETRY * random.uniform(0.75, 1.25)
        wait = _back_off(failures)
        log.warning("%s: %s; again in %.1f s", self.resource.plural, error, wait)
        return wait

    def _names(self) -> tuple[str, str]:
        return self.resource.plural, self.resource.api_version


def key_of(item: Json) -> str:
    """Give "namespace/name", or "name" for an object without a namespace."""
    metadata = item["metadata"]
    return "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def back_off(failures: int, first: float, last: float) -> float:
    """Compute the seconds to wait after so many failures in a row: doubled each time, limited, and randomised."""
    return min(last, first * 2.0 ** min(failures, 20)) * random.uniform(0.75, 1.25)


def _back_off(failures: int) -> float:
    return back_off(failures, FIRST_RETRY, LAST_RETRY)
