"""What an onlooker writes down while a story goes on: the world's own ledger, from which the invariants are checked.

What is true of machines, pods and images is read from the fake cloud, the fake cluster and the fake registry
themselves; of the product's own words only its Events and its requests are taken, for what it decided and when.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activities import signatures as act
from api import names
from api.views import RestorePoint
from tests.simulation.clock import Clock
from tests.workflows.bucket import Bucket
from tests.workflows.checkpoints import Checkpoints
from tests.workflows.cloud import Cloud
from tests.workflows.cluster import Cluster
from tests.workflows.cluster_objects import Node
from tests.workflows.documents import Documents
from tests.workflows.world import World

RECENT = 20  # checkpoints of which the newest image may still come


@dataclass(frozen=True)
class Finished:
    """A checkpoint whose image came into the registry."""

    at: datetime
    number: int
    image: str
    progress: float  # as its tag says


@dataclass(frozen=True)
class Choice:
    """What an incarnation was begun from, and what there was in that moment."""

    at: datetime
    replica: int
    incarnation: int
    restore: RestorePoint | None
    images: list[Finished]  # in the registry, of those that start at all


@dataclass(frozen=True)
class Notice:
    """The end of a machine was announced while a training ran on it."""

    at: datetime
    node: str
    replica: int
    incarnation: int


@dataclass
class Ledger:
    """The books of one story."""

    clock: Clock
    cloud: Cloud
    cluster: Cluster
    checkpoints: Checkpoints
    bucket: Bucket
    documents: Documents
    finished: dict[int, Finished] = field(default_factory=dict)
    choices: dict[tuple[int, int], Choice] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    most_vms: Counter[str] = field(default_factory=Counter)  # at once, by the VM's key
    twins: dict[int, list[str]] = field(default_factory=dict)  # replica → Jobs whose trainings ran at once
    after_the_end: set[str] = field(default_factory=set)  # machines that were there once the finalizers had gone
    left: list[str] = field(default_factory=list)  # what there is when all should be gone
    written: dict[str, str] = field(default_factory=dict)  # all that is kept or shown: histories, statuses, logs
    planted: list[str] = field(default_factory=list)  # credentials in the fakes
    _troubles: list[tuple[datetime, datetime | None]] = field(default_factory=list)

    @classmethod
    def of(cls, world: World) -> "Ledger":
        """The books of a world, kept from now on."""
        return cls(world.clock, world.cloud, world.cluster, world.checkpoints, world.bucket, world.documents)

    def __post_init__(self) -> None:
        advance = self.clock.advance

        def advance_and_look(now: datetime) -> None:
            self.look()
            advance(now)
            self.look()

        self.clock.advance = advance_and_look  # type: ignore[method-assign]

    # --- writing

    def look(self) -> None:
        """Note what is so now; called whenever something may have happened."""
        self._look_at_images()
        self._look_at_machines()
        self._look_at_trainings()
        self._look_at_nodes()

    def _look_at_images(self) -> None:
        for backup in self.checkpoints.history[-RECENT:]:
            if backup.image and backup.number not in self.finished:
                self.finished[backup.number] = Finished(self.clock.now, backup.number, backup.image, backup.progress)
        for number, saved in enumerate(self.bucket.saved):
            if saved.complete and (own := -1 - number) not in self.finished:  # by the training itself
                self.finished[own] = Finished(self.clock.now, own, saved.path, saved.progress)

    def _look_at_machines(self) -> None:
        mine = self.cloud.of_job(self.documents.start.job_id)
        for key, count in Counter(names.vm_key_of(name) or name for name in mine).items():
            self.most_vms[key] = max(self.most_vms[key], count)
        if self.documents.released is not None:
            self.after_the_end.update(mine)

    def _look_at_trainings(self) -> None:
        running: dict[int, list[str]] = {}
        for job in self.cluster.training():
            running.setdefault(job.key[0], []).append(job.name)
        self.twins.update({replica: jobs for replica, jobs in running.items() if len(jobs) > 1})

    def _look_at_nodes(self) -> None:
        known = {one.node for one in self.notices}
        for node in self.cluster.nodes.values():
            if node.marks and node.name not in known:
                self.noticed(node)

    def noticed(self, node: Node) -> None:
        """The end of a machine is announced now."""
        for job in self.cluster.training():
            if job.pod is not None and job.pod.node == node.name:
                self.notices.append(Notice(self.clock.now, node.name, *job.key))

    def asked(self, request: Any) -> None:
        """An activity is about to be carried out, or to fail: what it was decided from is what there is now."""
        if not isinstance(request, act.CreateReplica) or (request.replica, request.incarnation) in self.choices:
            return
        kept = self.checkpoints.registry.keys() | {saved.path for saved in self.bucket.saved if saved.complete}
        there = [one for one in self.finished.values() if one.image in kept]
        images = [one for one in there if one.image not in self.cluster.bad]
        self.choices[request.replica, request.incarnation] = Choice(
            self.clock.now, request.replica, request.incarnation, request.restore, images
        )

    def trouble(self, *, begins: bool) -> None:
        """From now on messages or answers may be lost, or all get through again."""
        under_way = bool(self._troubles) and self._troubles[-1][1] is None
        if begins and not under_way:
            self._troubles.append((self.clock.now, None))
        elif not begins and under_way:
            self._troubles[-1] = (self._troubles[-1][0], self.clock.now)

    # --- reading

    def in_trouble(self, begin: datetime, end: datetime) -> bool:
        """Between these two moments something was kept from getting through."""
        return any(since <= end and (until is None or until >= begin) for since, until in self._troubles)

    def told(self, reason: str, start: str) -> list[datetime]:
        """When the product decided on an Event with this reason whose message begins so."""
        return [
            event.at for event in self.documents.events if event.reason == reason and event.message.startswith(start)
        ]
