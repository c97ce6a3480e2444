"""The machines of a replica, one for each of its members. A replica of one pod has one member."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from workflows.common.stored import Flat, Mutable


class Seat(Mutable):
    """The machine of one member, present or to come: a VM bought for it, or a node that the cluster had before."""

    vm_key: str | None = None  # None on a node that the cluster had before, or if there is no machine yet
    node: str | None = None

    @property
    def has_machine(self) -> bool:
        """True if a machine is under it or is being bought."""
        return self.node is not None or self.vm_key is not None


class Seated(Flat):
    """Whatever has a seat for each member of a replica. Seats count from 0, and the first is stored flat."""

    STORED_AS: ClassVar[dict[str, dict[str, str]]] = {"first": {}}

    first: Seat = Field(default_factory=Seat)
    others: list[Seat] = Field(default=[], exclude_if=lambda others: not others)

    @property
    def seats(self) -> list[Seat]:
        """List the seats of all members, in their order."""
        return [self.first, *self.others]

    @property
    def only(self) -> Seat:
        """Return the seat of the only member. Whoever asks for it cannot work for several members yet."""
        assert not self.others, "this works for a replica with one member only"
        return self.first

    @property
    def nodes(self) -> list[str]:
        """List the nodes that are known."""
        return [seat.node for seat in self.seats if seat.node is not None]

    @property
    def free_nodes(self) -> list[str]:
        """List the nodes that the cluster had before."""
        return [seat.node for seat in self.seats if seat.node is not None and seat.vm_key is None]

    @property
    def vm_keys(self) -> list[str]:
        """List the keys of the VMs, also of those that are still to be bought."""
        return [seat.vm_key for seat in self.seats if seat.vm_key is not None]

    @property
    def bought(self) -> bool:
        """True if a VM is or was bought for any member."""
        return bool(self.vm_keys)

    @property
    def listed(self) -> str | None:
        """Name the nodes for people: "node-0, node-1"; None if none is known."""
        return ", ".join(self.nodes) or None

    @property
    def names(self) -> str:
        """Name the nodes within a sentence: "node-0, node-1" or "no node"."""
        return self.listed or "no node"

    def is_on(self, node: str | None) -> bool:
        """True if a member is on this node."""
        return node is not None and node in self.nodes

    def owns(self, key: str) -> bool:
        """True if this VM is, or will be, under a member."""
        return key in self.vm_keys

    def move_to(self, nodes: Mapping[int, str]) -> None:
        """Set the nodes of some members, by their numbers.

        The scheduler decides which member gets which of several machines, so a machine follows the pod that is on it.
        """
        free = [seat for seat in self.seats if seat.node not in nodes.values()]
        by_node = {seat.node: seat for seat in self.seats}
        seats = []
        for member in range(len(self.seats)):
            node = nodes.get(member)
            seat = by_node.get(node) if node is not None else None
            seats.append(seat or free.pop(0))
            seats[-1].node = node or seats[-1].node
        self.seat(seats)

    def seat(self, seats: Sequence[Seat]) -> None:
        """Give the members these seats, at least one."""
        self.first, self.others = seats[0], list(seats[1:])
