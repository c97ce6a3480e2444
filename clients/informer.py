"""The memory of one kind of objects: a few fields of each, kept by a watch, so that nobody has to list them.

A reader gets the memory if it is the cluster's present state. If it is not (the program has just started, the API
server is away), the reader waits for a moment and then reads the API server itself. docs/decisions/0032 says what may
be decided by it.

>>> nodes = Informer(kube, Kind("nodes", Resource("v1", "nodes"), host_of))
>>> (await nodes.read()).items["gpu-1"].gpus
Decimal('8')
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from temporalio.common import MetricMeter

from api import metrics
from clients.kube import Json, Kube
from clients.turns import Call, Turns
from clients.watch import Resource, Watch, key_of

log = logging.getLogger(__name__)

T = TypeVar("T")
S = TypeVar("S")

PATIENCE = 2.0
"""Seconds that a reader waits for the memory to become current, unless it says otherwise."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What is remembered of a resource, under a ``name`` for people.

    ``project`` makes it of an object, or None of one that does not matter. ``group`` says with which others it is asked
    for, for example the node of a pod.
    """

    name: str
    resource: Resource
    project: Callable[[Json], T | None]
    group: Callable[[T], str] = lambda _: ""


class Store(Generic[T]):
    """What is known of a kind's objects, by key ("namespace/name" or "name") and by group."""

    def __init__(self, kind: Kind[T]) -> None:
        self.items: dict[str, T] = {}
        self._kind = kind
        self._groups: dict[str, dict[str, T]] = {}
        self._sums: dict[str, Any] = {}

    def see(self, key: str, found: Json) -> None:
        """Remember an object. One that cannot be understood is forgotten, because its old fields are wrong."""
        try:
            self.put(key, self._kind.project(found))
        except Exception:
            log.exception("%s %s cannot be understood", self._kind.name, key)
            self.put(key, None)

    def put(self, key: str, item: T | None) -> None:
        """Remember an object's fields; forget it if None."""
        old = self.items.pop(key, None)
        if old is not None:
            group = self._kind.group(old)
            self._sums.pop(group, None)
            members = self._groups[group]
            del members[key]
            if not members:
                del self._groups[group]
        if item is not None:
            group = self._kind.group(item)
            self._sums.pop(group, None)
            self.items[key] = item
            self._groups.setdefault(group, {})[key] = item

    def of(self, group: str) -> Mapping[str, T]:
        """Give a group's members by key."""
        return self._groups.get(group, {})

    def summed(self, group: str, how: Callable[[Iterable[T]], S]) -> S:
        """Give ``how`` of a group's members, computed once until one of them changes; always by the same function."""
        if group not in self._sums:
            self._sums[group] = how(self.of(group).values())
        found: S = self._sums[group]
        return found


class Informer(Generic[T]):
    """The memory of one kind, kept while ``run`` runs. Without ``run`` each reader reads the API server."""

    def __init__(
        self, kube: Kube, kind: Kind[T], meter: MetricMeter = MetricMeter.noop, lasts: float = 300, silence: float = 70
    ) -> None:
        self.kind = kind
        self._kube = kube
        self._store = Store(kind)
        self._written: dict[str, int] = {}  # what this process wrote, by version, and the watch has not yet reported
        self._watch = Watch(
            kube,
            kind.resource,
            self._changed,
            lasts=lasts,
            silence=silence,
            meter=meter,
            program="worker",
            name=kind.name,
        )
        self._runs = False
        self._direct = Turns(self._list)  # readers without a memory share lists
        self._not_current = meter.create_counter(*metrics.WORKER_DIRECT_LISTS.made_by)

    async def run(self) -> None:
        """Watch until cancelled."""
        self._runs = True
        try:
            await self._watch.run()
        finally:
            self._runs = False

    @property
    def missing(self) -> bool:
        """True if the cluster does not know this kind."""
        return self._watch.missing

    @property
    def stuck(self) -> bool:
        """True if the watch does not even try, which no outage can cause."""
        return self._runs and self._watch.stuck

    @property
    def known(self) -> Store[T]:
        """Give the memory, of which ``current`` says whether to believe it."""
        self._forget_deleted()
        return self._store

    @property
    def current(self) -> bool:
        """True if the memory is the cluster's state of a moment ago."""
        return self._runs and self._watch.current

    async def read(self, within: float = PATIENCE) -> Store[T]:
        """Give what exists: from memory if that is current within so many seconds, else from the API server.

        Raises:
            KubeError: the API server refuses to list it.
        """
        if self._runs and await self._watch.becomes_current(within):
            return self.known
        return await self._direct.ask(self.kind.resource.path, None)

    def learn(self, written: Json) -> None:
        """Remember an object that this process has just written, so that it finds it before the watch reports it."""
        key, version = key_of(written), int(written["metadata"]["resourceVersion"])
        if self._runs and version > self._watch.position:
            self._store.see(key, written)
            self._written[key] = version

    def _changed(self, key: str, item: Json | None, version: int) -> None:
        if version < self._written.get(key, 0):
            return  # what was before our write
        self._written.pop(key, None)
        if item is None:
            self._store.put(key, None)
        else:
            self._store.see(key, item)

    def _forget_deleted(self) -> None:
        """Forget what this process wrote and the watch has passed without a word: it is gone already."""
        for key in [key for key, version in self._written.items() if version <= self._watch.position]:
            del self._written[key]
            self._store.put(key, None)

    async def _list(self, path: str, calls: list[Call[None, Store[T]]]) -> None:
        self._not_current.add(1, {"resource": self.kind.name})
        store = Store(self.kind)
        async for item in self._kube.each(path, **self.kind.resource.query):
            store.see(key_of(item), item)
        for call in calls:
            call.succeed(store)
