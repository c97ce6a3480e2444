"""The state of one replica: where it is in its life, and the parts that change together."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from api.phases import Phase
from api.views import PodView, ReplicaView, RestorePoint
from workflows.common.stored import Flat, Mutable
from workflows.job.state.seats import Seat, Seated
from workflows.policy.backoff import SOON, USUAL, back_off

Halt = Literal["Suspended", "ScaledDown", "Completed", "Failed", "Deleted"]

MOST_AVOIDED = 8
"""How many nodes a replica avoids at most because it did not start there."""


class Old(Seated):
    """An incarnation that is being replaced. Its Job goes last; its machines may already be gone.

    Its seats name the nodes that its pods are on. Of the VMs they name only those that go.
    """

    incarnation: int
    view: ReplicaView | None = None
    logs_saved: bool = False
    asked_to_stop: bool = False
    stopped: bool = False
    told_at: datetime | None = Field(default=None, exclude_if=lambda at: at is None)  # when a gang was told to save


class Recovery(Mutable):
    """The replacement of an incarnation that was lost."""

    cause: str
    noticed_at: datetime
    olds: list[Old] = []
    own: int | None = None  # the number of its rescue
    last: int | None = None  # the number of its second rescue, which contains what it trained after the first
    checkpoint: int | None = None  # the number of the survivor's checkpoint for which it waits
    checkpoint_tries: int = 0
    asked: list[int] = []  # the replicas of which a checkpoint was requested: the next one has another source
    node_ready_at: datetime | None = None


class Blocker(Mutable):
    """What keeps a replica's pod from running."""

    reason: str
    message: str
    since: datetime
    seen: bool = False  # a check of ours has found it, so it is gone once a check no longer finds it


class Ends(Mutable):
    """Disruptions and failures of a replica since it last ran well, after which its machine stayed up."""

    node: str = ""
    here: int = 0  # how many on that node
    failed_here: int = 0  # how many of these were failures of the training itself
    machines: int = 0  # how many machines were left because of them
    left_failing: bool = False  # one of those machines was left because the training failed there
    reason: str = ""  # of the condition Stable; empty until something happens again
    message: str = ""

    @property
    def recent(self) -> bool:
        """True if there were any since the replica last ran well."""
        return bool(self.here or self.machines or self.reason)


class Dump(Mutable):
    """The last checkpoint of a replica, which may be the cause of its end."""

    number: int
    incarnation: int
    requested_at: datetime
    ended_at: datetime | None = None
    usable: bool = False


class Place(Seated):
    """The machines of a replica, present or to come: VMs bought for it, or nodes that the cluster had before."""

    number: int = 0  # the number of VMs bought for it so far, which is part of their names
    candidates: list[str] = []  # the nodes with a free GPU, among which the scheduler chooses
    avoid: list[str] = []  # the nodes where it did not start
    shunned: dict[str, datetime] = {}  # the nodes where it ended again and again, each with the end of its avoidance
    # Of a gang alone: since when machines are bought for it while others of its machines wait for them, and the zones
    # that could not hold all of it, each with the end of its avoidance.
    gathers_since: datetime | None = Field(default=None, exclude_if=lambda since: since is None)
    short_zones: dict[str, datetime] = Field(default={}, exclude_if=lambda zones: not zones)
    # The seconds that the last saves of a gang took, from SIGTERM to the end of all pods.
    save_seconds: list[float] = Field(default=[], exclude_if=lambda seconds: not seconds)
    # Of a gang alone: machines that replace noticed ones or with which it may start again larger, whether it does so
    # now, and the seconds that its last restart and its last purchase took.
    spare: list[Seat] = Field(default=[], exclude_if=lambda seats: not seats)
    spare_losses: int = Field(default=0, exclude_if=lambda losses: losses == 0)  # in a row, or looks in vain
    spare_at: datetime | None = Field(default=None, exclude_if=lambda at: at is None)  # when the next one is due
    grows: bool = Field(default=False, exclude_if=lambda grows: not grows)
    restart_seconds: float | None = Field(default=None, exclude_if=lambda seconds: seconds is None)
    gathered_seconds: float | None = Field(default=None, exclude_if=lambda seconds: seconds is None)

    @property
    def is_gang(self) -> bool:
        """True if it is for several members, which start together or not at all."""
        return bool(self.others)

    @property
    def missing(self) -> int:
        """Return how many members have no machine, and none that is being bought."""
        return len([seat for seat in self.seats if not seat.has_machine])

    @property
    def has_machine(self) -> bool:
        """True if a machine is under any member or is being bought."""
        return any(seat.has_machine for seat in self.seats)

    @property
    def is_open(self) -> bool:
        """True if it has no machine, and no free GPU was found for it."""
        return not self.has_machine and not self.candidates

    @property
    def settled(self) -> bool:
        """True if each member has a node."""
        return all(seat.node is not None for seat in self.seats)

    @property
    def awaited(self) -> list[str]:
        """List the keys of the VMs that have no Node yet."""
        return [seat.vm_key for seat in self.seats if seat.vm_key is not None and seat.node is None]

    def buy(self, key: str) -> None:
        """Set the VM that is being bought for the first member without a machine. Stop looking for a free GPU."""
        seat = next((seat for seat in self.seats if not seat.has_machine), self.first)
        seat.vm_key, self.candidates = key, []

    def join(self, key: str, node: str | None) -> None:
        """Set the Node of a VM that has joined."""
        for seat in self.seats:
            if seat.vm_key == key:
                seat.node = node

    def settle(self, nodes: Mapping[int, str]) -> None:
        """Set the nodes that the scheduler has chosen, by member. Members that are not named have none."""
        for member, seat in enumerate(self.seats):
            seat.node = nodes.get(member)
        self.candidates = []

    def leave(self, members: Collection[int] | None = None) -> None:
        """Forget the machines of these members, or of all, which are left."""
        for seat in self.of_members(members):
            seat.vm_key = seat.node = None

    def lose(self, key: str) -> None:
        """Forget a VM, and with it the Node."""
        self.leave([member for member, seat in enumerate(self.seats) if seat.vm_key == key])

    def leave_free_nodes(self) -> None:
        """Forget the nodes that the cluster had before: other pods may take their GPUs."""
        self.leave([member for member, seat in enumerate(self.seats) if seat.vm_key is None])

    def resize(self, members: int) -> None:
        """Make it for so many members. Machines that are there come first, and those without a seat become spare."""
        seats = sorted([*self.seats, *self.spare], key=lambda seat: (seat.node is None, not seat.has_machine))
        seats += [Seat() for _ in range(members - len(seats))]
        self.seat(seats[:members])
        self.spare = [seat for seat in seats[members:] if seat.vm_key is not None]

    @property
    def spare_keys(self) -> list[str]:
        """List the keys of its spare VMs."""
        return [seat.vm_key for seat in self.spare if seat.vm_key is not None]

    @property
    def spare_nodes(self) -> list[str]:
        """List the nodes of its spare machines that are Ready."""
        return [seat.node for seat in self.spare if seat.node is not None]

    def on_node(self, node: str) -> frozenset[int] | None:
        """Number the member of a gang on this node, of which only that machine is left; None if all are left."""
        members = frozenset(member for member, seat in enumerate(self.seats) if seat.node == node)
        return members if self.is_gang and members else None

    def of_members(self, members: Collection[int] | None) -> list[Seat]:
        """List the seats of these members, or of all."""
        return [seat for member, seat in enumerate(self.seats) if members is None or member in members]

    def avoid_nodes(self, members: Collection[int] | None = None) -> None:
        """Avoid the present nodes of these members, or of all, because they did not start there."""
        nodes = [seat.node for seat in self.of_members(members) if seat.node is not None]
        self.avoid = [*self.avoid, *nodes][-MOST_AVOIDED:]


class MemberReading(Mutable):
    """The progress that a member of a gang has reported last, and since when it has reported nothing else."""

    progress: float
    at: datetime
    moves: bool = False  # it has reported something else before, in this incarnation

    def next(self, progress: float, now: datetime) -> "MemberReading":
        """Return the reading after it reports this progress."""
        return self if progress == self.progress else MemberReading(progress=progress, at=now, moves=True)


class Run(Mutable):
    """The present incarnation: what it started from, how its pod was last seen, and what progress it reports."""

    live: bool = False  # its Job may exist, and it is not being replaced
    pinned: bool = False  # its Job was made before there was a machine, and is pinned to the label of its place
    held: bool = False  # somebody has suspended its Job, so the next one is held as well
    restore: RestorePoint | None = None
    base_seconds: float = 0  # the training time of its restore point
    view: ReplicaView | None = None
    view_version: int = 0
    running_since: datetime | None = None
    blocked_since: datetime | None = None  # since when something has kept its present pod from running
    disruption: str | None = None  # why its present pod is taken away, in the words of whoever does it
    reading: float | None = None  # the progress that it last reported
    reading_at: datetime | None = None
    first_reading: float | None = None  # the first that this incarnation reported
    readings: dict[int, MemberReading] = Field(default={}, exclude_if=lambda readings: not readings)  # of a gang
    heard_at: datetime | None = None  # when its log was last read, whatever it said
    stalled: bool = False
    hung: str = ""  # what it has reported for longer than stallTimeout, so that it is to be restarted
    dump: Dump | None = None
    to_prove: bool = False  # it runs from an image that is not proven yet

    @property
    def pods(self) -> dict[int, PodView]:
        """Return its pods as they were last seen, by member."""
        return self.view.pods if self.view else {}

    @property
    def only_pod(self) -> PodView | None:
        """Return the pod of the only member; None if there is none. It cannot be asked of several members."""
        return self.view.only_pod if self.view else None

    @property
    def nodes(self) -> dict[int, str]:
        """Return the nodes on which its pods are, by member."""
        return {member: pod.node for member, pod in self.pods.items() if pod.node}

    def begin(self, restore: RestorePoint | None, *, pinned: bool) -> None:
        """Begin an incarnation from ``restore``, or from the beginning if that is None."""
        self.live, self.pinned, self.restore = True, pinned, restore
        self.base_seconds = restore.seconds if restore else 0
        self.view, self.view_version, self.disruption = None, 0, None
        self.stalled, self.hung, self.to_prove, self.blocked_since = False, "", False, None
        self._forget_memory()

    def end(self) -> None:
        """End the incarnation: it has no Job any more, and what it had in memory is lost."""
        self.live, self.view, self.blocked_since = False, None, None
        self._forget_memory()

    def _forget_memory(self) -> None:
        self.running_since = None
        self.forget_progress()

    def forget_progress(self) -> None:
        """Forget the progress that the training has reported."""
        self.reading = self.reading_at = self.first_reading = self.heard_at = None
        self.readings = {}

    def see(self, view: ReplicaView, version: int) -> None:
        """Take in a new version of its Job and pod. Who takes the pod away is remembered beyond the pod."""
        self.view, self.view_version = view, version
        disruptions = [pod.disruption for pod in view.pods.values() if pod.disruption]
        self.disruption = disruptions[0] if disruptions else self.disruption


class Retry(Mutable):
    """The failures in a row, by their kind, and the time at which the next step may be taken.

    Each kind has its own back-off. ``first`` is always the first pause, in seconds.
    """

    at: datetime | None = None
    failures: int = 0  # failed steps
    in_vain: int = 0  # VMs that never ran a pod of it
    crowded: int = 0  # VMs whose node had no room for it
    refusals: int = 0  # refusals of its pod before a VM was bought for it
    ignored: int = 0  # failures that podFailurePolicy ignores, each soon after the other
    broken: int = 0  # restores after which it soon ended

    def after_failure(self, now: datetime, first: float, ceiling: float = USUAL) -> None:
        """Count a failed step; the pause grows to ``ceiling`` times the first one."""
        self.failures += 1
        self.at = now + back_off(self.failures, first, ceiling=ceiling)

    def after_vm_in_vain(self, now: datetime, first: float) -> None:
        """Count a VM that never ran a pod. The pause grows to an hour, because the cause rarely goes by itself."""
        self.in_vain += 1
        self.at = now + back_off(self.in_vain, first, factor=6, ceiling=360)

    def after_refusal(self, now: datetime, first: float) -> None:
        """Count a refusal of its pod. A person may correct the cause at any moment, so the pause stays short."""
        self.refusals += 1
        self.at = now + back_off(self.refusals, first, ceiling=SOON)

    def after_ignored_failure(self, now: datetime, first: float, *, soon: bool) -> None:
        """Count a failure that podFailurePolicy ignores. If it did not come ``soon``, counting begins again."""
        self.ignored = self.ignored + 1 if soon else 1
        self.at = now + back_off(self.ignored, first)

    def after_broken_restore(self, now: datetime, first: float) -> bool:
        """Count a restore that did not last. True if a pause follows, which is so from the second in a row."""
        self.broken += 1
        if self.broken == 1:
            return False
        self.at = now + back_off(self.broken - 1, first, factor=6, ceiling=360)
        return True

    def count_machines(self, left_behind: int) -> None:
        """Count machines that were left because of what happened on them, without the first."""
        self.in_vain = max(self.in_vain, left_behind - 1)

    def reset(self) -> None:
        """Forget failed steps: the replica now does something else."""
        self.at, self.failures = None, 0

    def ran(self) -> None:
        """Forget what kept its pod from running: it runs."""
        self.failures = self.in_vain = self.crowded = 0


class SpotReturn(Mutable):
    """The move of a replica back to spot: a spot VM is bought for it, it is checkpointed, then it moves."""

    at: datetime | None = None  # when to buy a spot VM for it
    reserved: str | None = None  # the key of the spot VM to which it will move
    checkpoint: int | None = None  # the number of the checkpoint with which it moves
    moving: bool = False  # it leaves its machine for the reserved VM
    # Of a gang: spot machines are bought for all of its members that are on-demand, as spare ones.
    returns: bool = Field(default=False, exclude_if=lambda returns: not returns)

    def give_up(self, until: datetime) -> None:
        """Stay on on-demand for now."""
        self.reserved = self.checkpoint = None
        self.returns = False
        self.at = until

    def move(self) -> int | None:
        """Leave for the reserved VM, and return the number of the checkpoint with which it moves."""
        number, self.checkpoint, self.moving, self.at = self.checkpoint, None, False, None
        return number

    def end(self) -> None:
        """End the move: it is on the reserved VM, or does without one."""
        self.reserved, self.checkpoint, self.moving, self.returns = None, None, False, False


class Replica(Flat):
    """One replica: where it is in its life and what is known about it."""

    STORED_NAMES: ClassVar[dict[str, str]] = {"blocker": "trouble"}
    STORED_AS: ClassVar[dict[str, dict[str, str]]] = {
        "place": {"number": "place", "others": "other_seats"},
        "run": {"blocked_since": "hindered_since"},
        "retry": {"at": "retry_at"},
        "spot_return": {"at": "return_at", "checkpoint": "return_checkpoint"},
    }

    index: int
    incarnation: int = -1  # the number of the last one that was begun
    phase: Phase = "Pending"
    since: datetime
    message: str = ""
    deadline: datetime | None = None  # of the present phase
    halt: Halt | None = None
    proof: bool = False  # it is a proof replica
    outcome: Literal["Succeeded", "Failed"] | None = None
    place: Place = Field(default_factory=Place)
    run: Run = Field(default_factory=Run)
    retry: Retry = Field(default_factory=Retry)
    spot_return: SpotReturn = Field(default_factory=SpotReturn)
    recovery: Recovery | None = None
    restarts: int = 0
    preemptions: int = 0
    disruptions: int = 0  # pods that were evicted or deleted while their machine stayed up
    ends: Ends = Field(default_factory=Ends)
    blocker: Blocker | None = None  # what keeps its pod from running, until it runs
    asking: bool = False  # it is asking whether its pod would be admitted, and may be about to buy a VM
    ran: bool | None = None  # a pod of it ran; None in a replica that is older than this field
    last_checkpoint_image: str | None = None
    last_checkpoint_time: datetime | None = None
    outputs_done: bool = False  # its outputs are uploaded, or a condition says why not
    kept_until: datetime | None = None  # until when its VM is kept, after it failed for good, for people to look at
    log: str | None = None  # where its logs are

    @property
    def members(self) -> range:
        """Return the numbers of its members."""
        return range(len(self.place.seats))

    @property
    def all_run(self) -> bool:
        """True if the pods of all members run, and nobody is taking one away."""
        return all(member in self.run.pods and self.run.pods[member].undisturbed for member in self.members)

    def as_old(self, leaves: Collection[int] | None = None) -> Old:
        """Describe the present incarnation as one that ends. ``leaves`` are the members whose machines go; None is all.

        The VM of a member that stays is not named, because the next incarnation has it.
        """
        seats = [
            Seat(node=seat.node, vm_key=seat.vm_key if leaves is None or member in leaves else None)
            for member, seat in enumerate(self.place.seats)
        ]
        return Old(incarnation=self.incarnation, first=seats[0], others=seats[1:], view=self.run.view)

    def forget_blockers(self) -> None:
        """Forget what was wrong before it was released: whoever resumes it later may have corrected that."""
        self.blocker, self.ends = None, Ends()
        self.run.disruption, self.run.held = None, False
        self.retry.in_vain = self.retry.crowded = self.retry.refusals = self.retry.ignored = 0

    @property
    def has_run(self) -> bool:
        """True if a pod of it ran, even before replicas remembered that."""
        if self.ran is None:
            return self.run.running_since is not None or self.run.restore is not None or self.preemptions > 0
        return self.ran or self.run.running_since is not None
