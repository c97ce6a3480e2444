"""The election of the bridge that acts: the holder of the Lease ``outlast-bridge`` in the installation's namespace.

The rules are those of client-go. The holder renews the Lease. Another bridge takes it once it is released, or once it
has not changed for the duration that it states, by the clock of the one that waits: no two clocks are compared. If two
take it at the same moment, the API server lets one through, by the resourceVersion.

A holder that could not renew in time stops acting before anybody else can have the Lease. If nobody took it, it
continues with all that it knows: the API server may have been unreachable for everybody. Work in flight at that moment
may end beside that of the next holder. That is harmless: see ``docs/decisions/0029-a-standby-bridge.md``.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from temporalio.common import MetricMeter

from api import metrics
from api.names import ANNOTATION_BRIDGED, BRIDGE_LEASE
from clients.kube import Json, Kube, KubeError, path
from crd_bridge.reported import NOTHING, Reported

log = logging.getLogger(__name__)

LEASES = "coordination.k8s.io/v1"
Tell = Callable[[], Reported | None]
"""Says what has been reported so far; None if there is nothing to say yet."""

NO_ANSWER = (KubeError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class Durations:
    """Seconds. A notice may leave half a minute, so the Lease of a bridge that was lost with its node lasts for ten."""

    lease: float = 10
    """Time from the last renewal until another bridge takes the Lease."""
    renew: float = 6
    """Time from the last renewal until its holder stops acting."""
    retry: float = 2
    """Time from one renewal, or one attempt, to the next."""


class Election:
    """One candidate, known as ``identity``, which no other process has at the same time.

    A process that starts again under an earlier process' identity, as a container of a pod does, continues with its
    Lease at once.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        meter: MetricMeter = MetricMeter.noop,
        durations: Durations = Durations(),
    ) -> None:
        self.identity = identity
        self.problem: str | None = None
        """Why the Lease could not be read or written at the last attempt."""
        self.reported = NOTHING
        """What the bridge that had the Lease last has reported, as last read."""
        self._tell: Tell = _nothing
        self._kube = kube
        self._namespace = namespace
        self._durations = durations
        self._holder: str | None = None  # as last read; empty if it was released
        self._term = 0  # leaseTransitions, as last read
        self._spec: Json = {}  # as last read
        self._since = 0.0  # when we first read it so
        self._version = ""
        self._renewed = -durations.renew  # when our last renewal began
        self._renewal = asyncio.Event()
        self._active = meter.create_gauge(*metrics.BRIDGE_ACTIVE.made_by)
        self._active.set(0)

    @property
    def acts(self) -> bool:
        """True if nobody else can have the Lease."""
        return self._is_ours and time.monotonic() - self._renewed < self._durations.renew

    @property
    def notes(self) -> list[str]:
        """Say for a probe which of several bridges this is."""
        if self._is_ours:
            return []
        return [f"standing by: {self._holder or 'nobody yet'} holds the Lease {self._namespace}/{BRIDGE_LEASE}"]

    @property
    def missing(self) -> list[str]:
        """Say what keeps this candidate from being elected."""
        return [f"the Lease {self._namespace}/{BRIDGE_LEASE}: {self.problem}"] if self.problem else []

    async def permission(self) -> None:
        """Wait until ``acts`` is True; called before each piece of work."""
        while not self.acts:
            await self._renewal.wait()

    async def lead(self, work: Callable[[], Coroutine[Any, Any, None]], tell: Tell | None = None) -> None:
        """Run ``work`` in each term for which this candidate is elected, until cancelled; then release the Lease.

        What ``tell`` says is kept in the Lease for the next bridge, with each renewal and with the release.
        """
        self._tell = tell or _nothing
        try:
            while True:
                await self._win()
                log.info("elected: %s acts", self.identity)
                async with asyncio.TaskGroup() as group:
                    working = group.create_task(work(), name="the bridge")
                    await self._keep()
                    working.cancel()
                log.warning("%s acts now, %s stands by", self._holder, self.identity)
        finally:
            self._active.set(0)
            await self._release()

    @property
    def _is_ours(self) -> bool:
        return self._holder == self.identity

    async def _win(self) -> None:
        while not await self._try():
            await self._change()

    async def _keep(self) -> None:
        """Renew the Lease until somebody else has had it."""
        term = self._term
        pause = self._durations.retry
        while self._is_ours and self._term == term:
            await asyncio.sleep(pause)
            began = time.monotonic()
            await self._try()
            # After one that hung the next is made at once, so that two fit in the time in which the Lease may be used.
            pause = max(0.0, self._durations.retry - (time.monotonic() - began))

    async def _try(self) -> bool:
        """Take or renew the Lease; True if that succeeded."""
        try:
            # Half of the time, so that one connection that hangs does not use it all.
            async with asyncio.timeout(self._durations.renew / 2):
                taken = await self._take()
        except NO_ANSWER as error:
            problem = _problem(error)
            if problem != self.problem:
                log.warning("the Lease %s/%s: %s", self._namespace, BRIDGE_LEASE, problem)
            self.problem, taken = problem, False
        else:
            self.problem = None
        self._active.set(int(self.acts))
        return taken

    async def _take(self) -> bool:
        began = time.monotonic()
        found = await self._kube.find(self._path)
        if found is not None:
            self._see(found)
            if not self._is_ours and not self._has_lapsed:
                return False
            change = {"spec": self._renewal_of(found["spec"]), **self._message(found)}
            if not await self._kube.rewrite(self._path, found, change):
                return False  # somebody else was faster
        else:
            metadata = {"name": BRIDGE_LEASE, "labels": {"app.kubernetes.io/part-of": "outlast"}}
            body: Json = {"apiVersion": LEASES, "kind": "Lease", "metadata": metadata, "spec": self._renewal_of({})}
            await self._kube.create(path(LEASES, "leases", self._namespace), body)
        self._holder, self._renewed = self.identity, began
        self._renewal.set()
        self._renewal = asyncio.Event()
        return True

    def _see(self, found: Json) -> None:
        spec = found.setdefault("spec", {})
        metadata = found["metadata"]
        self._version = metadata["resourceVersion"]
        told = (metadata.get("annotations") or {}).get(ANNOTATION_BRIDGED, "")
        self.reported = Reported.read(told, metadata["uid"], int(self._version))
        if spec != self._spec or not self._since:
            self._spec, self._since = spec, time.monotonic()
        self._holder = spec.get("holderIdentity") or ""
        self._term = spec.get("leaseTransitions") or 0

    @property
    def _left(self) -> float:
        """Count the seconds until it lapses if its holder does not renew it."""
        if not self._holder:
            return 0
        lasts = self._spec.get("leaseDurationSeconds") or self._durations.lease
        return float(self._since + lasts - time.monotonic())

    @property
    def _has_lapsed(self) -> bool:
        return self._left <= 0

    def _renewal_of(self, spec: Json) -> Json:
        """Build the Lease's spec with a renewal of ours, or with the beginning of a term."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        renewal: Json = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._durations.lease)),
            "renewTime": now,
        }
        if self._is_ours and spec:
            return renewal
        self._term = (spec.get("leaseTransitions") or 0) + 1 if spec else 0
        return renewal | {"acquireTime": now, "leaseTransitions": self._term}

    def _message(self, found: Json) -> Json:
        """Build the change of the Lease's annotation; none before our own work has anything to say."""
        said = self._tell()
        if said is None:
            return {}
        return {"metadata": {"annotations": {ANNOTATION_BRIDGED: said.written(found["metadata"]["uid"])}}}

    async def _change(self) -> None:
        """Wait until the Lease changes or lapses, or if it cannot be watched, until the next attempt."""
        if self._holder is None or self.problem:
            await asyncio.sleep(self._durations.retry)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._left)):
                async with contextlib.aclosing(self._changes()) as changes:
                    async for _ in changes:
                        return
                await asyncio.sleep(self._durations.retry)

    async def _changes(self) -> AsyncGenerator[None, None]:
        collection, selector = path(LEASES, "leases", self._namespace), f"metadata.name={BRIDGE_LEASE}"
        lasts = 2 * self._durations.lease
        events = self._kube.follow(collection, self._version, lasts=lasts, silence=lasts, fieldSelector=selector)
        with contextlib.suppress(*NO_ANSWER):
            async with contextlib.aclosing(events):
                async for event in events:
                    if event["type"] != "BOOKMARK":
                        yield

    async def _release(self) -> None:
        """Let another candidate have it now, because our work has stopped."""
        if not self._is_ours:
            return
        released = {"spec": {"holderIdentity": None, "leaseDurationSeconds": 1}}
        with contextlib.suppress(*NO_ANSWER):
            async with asyncio.timeout(self._durations.renew / 2):
                found = await self._kube.find(self._path)
                if found and (found.get("spec") or {}).get("holderIdentity") == self.identity:
                    await self._kube.rewrite(self._path, found, {**released, **self._message(found)})

    @property
    def _path(self) -> str:
        return path(LEASES, "leases", self._namespace, BRIDGE_LEASE)


def _nothing() -> None:
    return None


def _problem(error: Exception) -> str:
    said = str(error) or "no answer from the API server"
    if isinstance(error, KubeError) and error.status in (403, 404):
        said += "; OUTLAST_NAMESPACE says where Outlast is installed, and deploy/base/bridge-rbac.yaml gives the right"
    return said
