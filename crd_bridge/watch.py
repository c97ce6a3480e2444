"""A watch that lasts: list, tell everything, follow from the list's version on, and again for ever.

Level-triggered: every call of ``changed`` means "make it match this object", so that being told twice is harmless.
What a reset connection swallows is noticed by silence (the API server sends a bookmark every minute), and what happened
while the watch was away comes in order from where it left, or by a new list where the server has forgotten it (410).
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp
from temporalio.common import MetricMeter

from clients.kube import Json, Kube, KubeError, path
from crd_bridge.queues import back_off

log = logging.getLogger(__name__)

Changed = Callable[[str, Json | None, int], None]
"""key ("namespace/name" or "name"), the object or None where it is gone, the resourceVersion of the change."""

FIRST_RETRY = 0.2
LAST_RETRY = 5.0  # a notice may come as soon as the server is back
MISSING_RETRY = 10.0  # for a kind whose CRD is not installed


@dataclass(frozen=True)
class Resource:
    """A kind of objects in the whole cluster, or those of them with a label or a field."""

    api_version: str
    plural: str
    selector: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        """The collection's path at the API server."""
        return path(self.api_version, self.plural)

    @property
    def query(self) -> dict[str, str]:
        """What narrows it."""
        wanted = {"labelSelector": self.selector, "fieldSelector": self.fields}
        return {name: value for name, value in wanted.items() if value}


class Watch:
    """One kind, watched for as long as ``run`` runs. ``lasts`` and ``silence`` in seconds."""

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        changed: Changed,
        *,
        lasts: float = 300,
        silence: float = 70,
        meter: MetricMeter = MetricMeter.noop,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()  # the first list was told
        self._kube = kube
        self._changed = changed
        self._lasts = lasts
        self._silence = silence
        self._known: set[str] = set()
        self._heard = self._moved = time.monotonic()
        self._missing = False
        attributes = {"resource": resource.plural}
        self._lists = meter.create_counter("outlast_bridge_lists", "full lists").with_additional_attributes(attributes)
        self._events = meter.create_counter("outlast_bridge_events", "changes").with_additional_attributes(attributes)

    @property
    def stale(self) -> bool:
        """Nothing was heard for so long that something must be wrong with the way to the API server.

        A kind that is not installed is not stale: there is nothing to hear of it.
        """
        return not self._missing and time.monotonic() - self._heard > 2 * self._silence

    @property
    def stuck(self) -> bool:
        """Not even a try for longer than any of its waits: no outage does that."""
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
                # The server ended it in time; one that does so at once is not asked without a pause.
                wait = 0 if failures == 0 else _back_off(failures)
            except KubeError as error:
                # 410: what happened since is forgotten. Any other refusal may be about this version, too.
                version = ""
                wait = self._refused(error, failures)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                wait = _back_off(failures)
                log.warning("%s: %s; again in %.1f s", self.resource.plural, error or type(error).__name__, wait)
            failures += 1
            await asyncio.sleep(wait)

    async def _list(self) -> str:
        items, version = await self._kube.snapshot(self.resource.path, **self.resource.query)
        self._hear()
        self._lists.add(1)
        found = {key_of(item): item for item in items}
        for key in self._known - found.keys():
            self._tell(key, None, int(version))
        for key, item in found.items():
            self._tell(key, item, int(item["metadata"]["resourceVersion"]))
        self._known = set(found)
        self.synced.set()
        return version

    async def _follow(self, version: str) -> AsyncGenerator[str, None]:
        """Tell every change after ``version``; yields the version to go on from after each event."""
        resource = self.resource
        events = self._kube.follow(resource.path, version, lasts=self._lasts, silence=self._silence, **resource.query)
        async with aclosing(events):
            async for event in events:
                self._hear()
                item = event["object"]
                if event["type"] != "BOOKMARK":
                    self._see(item, gone=event["type"] == "DELETED")
                yield item["metadata"]["resourceVersion"]

    def _see(self, item: Json, *, gone: bool) -> None:
        key = key_of(item)
        (self._known.discard if gone else self._known.add)(key)
        self._tell(key, None if gone else item, int(item["metadata"]["resourceVersion"]))

    def _hear(self) -> None:
        self._heard = self._moved = time.monotonic()
        self._missing = False

    def _tell(self, key: str, item: Json | None, version: int) -> None:
        self._events.add(1)
        try:
            self._changed(key, item, version)
        except Exception:  # one strange object must not hide all others
            log.exception("%s %s cannot be understood", self.resource.plural, key)

    def _refused(self, error: KubeError, failures: int) -> float:
        if error.status == 410:
            log.info("%s: too far behind, listing again", self.resource.plural)
            return 0 if failures == 0 else _back_off(failures)
        if error.status == 404:
            if not self._missing:
                log.warning("%s of %s are not installed, waiting for the CRD", *self._names())
            self._missing = True
            return MISSING_RETRY * random.uniform(0.75, 1.25)
        wait = _back_off(failures)
        log.warning("%s: %s; again in %.1f s", self.resource.plural, error, wait)
        return wait

    def _names(self) -> tuple[str, str]:
        return self.resource.plural, self.resource.api_version


def key_of(item: Json) -> str:
    """ "namespace/name", or "name" of what lives in no namespace."""
    metadata = item["metadata"]
    return "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def _back_off(failures: int) -> float:
    return back_off(failures, FIRST_RETRY, LAST_RETRY)
