"""What an onlooker writes down during a story: the world's own ledger, from which the invariants are checked.

The truth about machines, pods and images is read from the fake cloud, the fake cluster and the fake registry
themselves. The product's Events and requests only show what it decided, and when.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
    """What an incarnation was started from, and what there was at that moment."""

    at: datetime
    replica: int
    incarnation: int
    restore: RestorePoint | None
    images: list[Finished]  # in the registry, of those that start at all


@dataclass(frozen=True)
class Notice:
    """The announcement of a machine's end while a training ran on it."""

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
    after_the_end: set[str] = field(default_factory=set)  # machines that existed once the finalizers had gone
    left: list[str] = field(default_factory=list)  # what exists when all should be gone
    written: dict[str, str] = field(default_factory=dict)  # everything that is kept or shown: histories, statuses, logs
    planted: list[str] = field(default_factory=list)  # credentials in the fakes
    is_blocked: Callable[[], bool] = lambda: False  # something keeps the job from training now, or a person does
    is_owned: Callable[[str], bool] = lambda name: True  # somebody looks after this machine
    ownerless: set[str] = field(default_factory=set)  # machines after which nobody looked, though they cost money
    longest_idle: timedelta = timedelta()  # for which nothing trained, though nothing was in the way
    longest_hang: timedelta = timedelta()  # for which members of a gang waited for one that had stopped, likewise
    torn: list[str] = field(default_factory=list)  # incomplete checkpoints from which an incarnation began
    missized: list[str] = field(default_factory=list)  # incarnations of a size that the spec does not allow
    beside: list[str] = field(default_factory=list)  # nodes on which two members of a gang were
    _machines: list[str] = field(default_factory=list)  # at the last look
    _idle_since: datetime | None = None
    _hangs_since: datetime | None = None
    _disturbances: list[tuple[datetime, datetime | None]] = field(default_factory=list)

    @classmethod
    def of(cls, world: World) -> "Ledger":
        """Keep the books of a world from now on."""
        return cls(world.clock, world.cloud, world.cluster, world.checkpoints, world.bucket, world.documents)

    def __post_init__(self) -> None:
        self.began = self.clock.now
        advance = self.clock.advance

        def advance_and_look(now: datetime) -> None:
            self.look()
            advance(now)
            self.look()

        self.clock.advance = advance_and_look  # type: ignore[method-assign]

    # --- writing

    def look(self) -> None:
        """Note how it is now. It is called whenever something may have happened."""
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
        mine = self.cloud.of_job(self.documents.job_id)
        if mine != self._machines:
            self._machines = mine
            for key, count in Counter(names.vm_key_of(name) or name for name in mine).items():
                self.most_vms[key] = max(self.most_vms[key], count)
        self.ownerless.update(name for name in mine if not self.is_owned(name))
        if self.documents.released is not None:
            self.after_the_end.update(mine)

    def _look_at_trainings(self) -> None:
        running: dict[int, list[str]] = {}
        for job in self.cluster.training():
            running.setdefault(job.key[0], []).append(job.name)
        self.twins.update({replica: jobs for replica, jobs in running.items() if len(jobs) > 1})
        trains = any(job.trains for job in self.cluster.training())
        self._look_at_gangs()
        if trains or self.cluster.finished or self.documents.released is not None or self.is_blocked():
            self._idle_since = None
        else:
            self._idle_since = self._idle_since or self.clock.now
            self.longest_idle = max(self.longest_idle, self.clock.now - self._idle_since)

    def _look_at_gangs(self) -> None:
        gangs = [job for job in self.cluster.training() if job.is_gang]
        for job in gangs:
            nodes = Counter(pod.node for pod in job.pods.values() if pod.node)
            self.beside += [f"{job.name} on {node}" for node, count in nodes.items() if count > 1]
        if any(job.halted_at for job in gangs) and not self.is_blocked():
            self._hangs_since = self._hangs_since or self.clock.now
            self.longest_hang = max(self.longest_hang, self.clock.now - self._hangs_since)
        else:
            self._hangs_since = None

    def _look_at_nodes(self) -> None:
        known = {one.node for one in self.notices}
        for node in self.cluster.nodes.values():
            if node.marks and node.name not in known:
                self.noticed(node)

    def noticed(self, node: Node) -> None:
        """Note that the end of a machine is announced now."""
        for job in self.cluster.training():
            if any(pod.node == node.name for pod in job.pods.values()):
                self.notices.append(Notice(self.clock.now, node.name, *job.key))

    def asked(self, request: Any) -> None:
        """Note what an activity was decided from, before it is carried out or fails."""
        if not isinstance(request, act.CreateReplica) or (request.replica, request.incarnation) in self.choices:
            return
        gang, size = self.documents.spec.gang, request.members
        if gang is not None and not gang.min_size <= size <= gang.max_size:
            self.missized.append(f"incarnation {request.incarnation} of replica {request.replica} has {size} members")
        path = request.restore.path if request.restore else None
        self.torn += [saved.path for saved in self.bucket.saved if saved.path == path and not saved.complete]
        kept = self.checkpoints.registry.keys() | {saved.path for saved in self.bucket.saved if saved.complete}
        there = [one for one in self.finished.values() if one.image in kept]
        images = [one for one in there if one.image not in self.cluster.bad]
        self.choices[request.replica, request.incarnation] = Choice(
            self.clock.now, request.replica, request.incarnation, request.restore, images
        )

    def disturbance(self, *, begins: bool) -> None:
        """Note that from now on messages or answers may be lost, or that all get through again."""
        under_way = bool(self._disturbances) and self._disturbances[-1][1] is None
        if begins and not under_way:
            self._disturbances.append((self.clock.now, None))
        elif not begins and under_way:
            self._disturbances[-1] = (self._disturbances[-1][0], self.clock.now)

    # --- reading

    def gets_through(self, at: datetime) -> datetime:
        """Find from when on messages and answers got through; far in the future if they do not yet."""
        for since, until in self._disturbances:
            if since <= at and (until is None or until >= at):
                at = until or datetime.max.replace(tzinfo=at.tzinfo)
        return at

    def disturbed(self, begin: datetime, end: datetime) -> bool:
        """True if something was kept from getting through between these two moments."""
        return any(since <= end and (until is None or until >= begin) for since, until in self._disturbances)

    def departures(self, replica: int, node: str) -> list[datetime]:
        """List when the product decided that a replica leaves a node, which may be one of several."""
        begin = f"replica {replica} on "
        events = [event for event in self.documents.events if event.reason == "Preempted"]
        told = [(event.at, event.message.removeprefix(begin).partition(":")[0]) for event in events]
        return [at for at, nodes in told if node in nodes.split(", ")]

    def told(self, reason: str, start: str) -> list[datetime]:
        """List when the product decided on an Event with this reason whose message begins so."""
        return [
            event.at for event in self.documents.events if event.reason == reason and event.message.startswith(start)
        ]
