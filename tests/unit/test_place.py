"""The place of a replica with one to three members, over long random lives."""

from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest

from tests.unit.policy import NOW
from workflows.job.state.replica import Old, Place, Replica
from workflows.job.state.seats import Seat

MEMBERS = [1, 2, 3]
SEEDS = range(5)


def place(members: int) -> Place:
    return Place(others=[Seat() for _ in range(members - 1)])


class Life:
    """A place that goes through random transitions, as a replica's life makes them."""

    def __init__(self, seed: int, members: int) -> None:
        self.random = Random(seed)
        self.place = place(members)

    def step(self) -> str:
        steps: list[Callable[[], None]] = [self.buy, self.join, self.settle, self.lose, self.leave_some]
        steps += [self.place.leave, self.place.leave_free_nodes, self.place.avoid_nodes]
        step = self.random.choice(steps)
        step()
        return step.__name__

    def buy(self) -> None:
        if any(not seat.has_machine for seat in self.place.seats):
            self.place.number += 1
            self.place.buy(f"v{self.place.number}")

    def join(self) -> None:
        if self.place.awaited:
            key = self.random.choice(self.place.awaited)
            self.place.join(key, f"node-of-{key}")

    def settle(self) -> None:
        if not self.place.bought:
            self.place.candidates = ["a", "b", "c"]
            chosen = self.random.sample(self.place.candidates, len(self.place.seats))
            self.place.settle(dict(enumerate(chosen)))

    def lose(self) -> None:
        if self.place.bought:
            self.place.lose(self.random.choice(self.place.vm_keys))

    def leave_some(self) -> None:
        self.place.leave(self.random.sample(range(len(self.place.seats)), 1))


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_answers_agree_whatever_happens(seed: int, members: int) -> None:
    life = Life(seed, members)
    for _ in range(100):
        life.step()
        here = life.place
        assert len(here.seats) == members
        assert here.has_machine == bool(here.nodes or here.vm_keys)
        assert here.is_open == (not here.has_machine and not here.candidates)
        assert here.settled == (len(here.nodes) == members)
        assert here.bought == any(here.owns(key) for key in here.vm_keys)
        assert len(set(here.vm_keys)) == len(here.vm_keys), "no VM is under two members"
        assert set(here.awaited) <= set(here.vm_keys)
        assert all(here.is_on(node) for node in here.nodes)
        assert not here.is_on(None)
        assert set(here.free_nodes) | {f"node-of-{key}" for key in here.vm_keys} >= set(here.nodes)
        assert here.listed is None or set(here.listed.split(", ")) == set(here.nodes)


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_any_place_is_read_as_it_was_written(seed: int, members: int) -> None:
    life = Life(seed, members)
    for _ in range(30):
        life.step()
        replica = Replica(index=0, incarnation=3, since=NOW, place=life.place)
        written = replica.model_dump(mode="json")
        assert Replica.model_validate(written) == replica
        assert ("other_seats" in written) == (members > 1), "a place with one member is stored as it always was"
        old = replica.as_old()
        assert Old.model_validate(old.model_dump(mode="json")) == old


@pytest.mark.parametrize("members", MEMBERS)
def test_members_get_their_machines_one_by_one(members: int) -> None:
    here = place(members)
    for number in range(members):
        assert not here.settled
        here.buy(f"v{number}")
        assert here.awaited == [f"v{number}"]
        here.join(f"v{number}", f"n{number}")
    assert here.settled
    assert here.nodes == [f"n{number}" for number in range(members)]


def test_only_the_lost_member_gets_another_machine() -> None:
    here = place(3)
    for key in ("v1", "v2", "v3"):
        here.buy(key)
        here.join(key, f"n-{key}")
    here.lose("v2")
    assert (here.vm_keys, here.nodes) == (["v1", "v3"], ["n-v1", "n-v3"])
    here.buy("v4")
    assert here.vm_keys == ["v1", "v4", "v3"]
    assert (here.awaited, here.settled) == (["v4"], False)


def test_a_key_of_another_place_changes_nothing() -> None:
    here = place(2)
    here.buy("v1")
    before = here.model_copy(deep=True)
    here.lose("v9")
    here.join("v9", "n9")
    assert here == before


def test_a_queue_may_give_away_the_nodes_that_were_not_bought() -> None:
    here = Place(first=Seat(node="a"), others=[Seat(vm_key="v1", node="n1")])
    here.leave_free_nodes()
    assert (here.nodes, here.vm_keys) == (["n1"], ["v1"])


def test_the_scheduler_settles_all_members_at_once() -> None:
    here = place(2)
    here.candidates = ["a", "b", "c"]
    here.settle({0: "b", 1: "c"})
    assert (here.nodes, here.candidates, here.settled) == (["b", "c"], [], True)
    here.settle({1: "a"})
    assert here.nodes == ["a"], "a member that is not named has no node"


def test_pods_that_run_elsewhere_move_their_members_alone() -> None:
    here = Place(first=Seat(node="a"), others=[Seat(node="b")])
    here.move_to({1: "c"})
    assert here.nodes == ["a", "c"]


def test_at_most_eight_nodes_are_avoided() -> None:
    here = place(3)
    for number in range(4):
        here.settle({member: f"n{number}-{member}" for member in range(3)})
        here.avoid_nodes()
    assert len(here.avoid) == 8
    assert here.avoid[-3:] == ["n3-0", "n3-1", "n3-2"]


def test_the_only_seat_is_refused_where_there_are_several() -> None:
    assert place(1).only == Seat()
    with pytest.raises(AssertionError, match="one member only"):
        assert place(2).only


def test_an_ended_incarnation_names_only_the_vms_that_go() -> None:
    seats = [Seat(vm_key=f"v{number}", node=f"n{number}") for number in range(3)]
    replica = Replica(index=0, incarnation=5, since=NOW, place=Place(first=seats[0], others=seats[1:]))
    old = replica.as_old([1])
    assert (old.incarnation, old.nodes, old.vm_keys) == (5, ["n0", "n1", "n2"], ["v1"])
    assert replica.as_old().vm_keys == ["v0", "v1", "v2"]
    replica.place.leave([1])
    assert old.nodes == ["n0", "n1", "n2"], "it is a copy"


def test_what_is_shunned_is_not_touched_by_the_seats() -> None:
    here = Place(shunned={"a": NOW + timedelta(hours=1)})
    here.settle({0: "b"})
    here.leave()
    assert list(here.shunned) == ["a"]


def test_machines_follow_the_pods_that_the_scheduler_puts_on_them() -> None:
    here = Place(
        first=Seat(vm_key="v1", node="n1"), others=[Seat(vm_key="v2", node="n2"), Seat(vm_key="v3", node="n3")]
    )
    here.move_to({0: "n2", 2: "n1"})
    assert [(seat.vm_key, seat.node) for seat in here.seats] == [("v2", "n2"), ("v3", "n3"), ("v1", "n1")]


def test_members_with_a_machine_keep_it_if_there_are_fewer() -> None:
    here = Place(first=Seat(), others=[Seat(vm_key="v2", node="n2"), Seat(vm_key="v3", node="n3")])
    here.resize(2)
    assert (here.vm_keys, here.spare) == (["v2", "v3"], [])
    here.resize(1)
    assert (here.is_gang, here.only.vm_key, here.spare_keys) == (False, "v2", ["v3"])


def test_spare_machines_get_a_seat_if_there_are_more() -> None:
    here = Place(first=Seat(vm_key="v1", node="n1"), others=[Seat(vm_key="v2")], spare=[Seat(vm_key="v3", node="n3")])
    here.resize(3)
    assert (here.vm_keys, here.spare) == (["v1", "v3", "v2"], []), "those that are there come first"


def test_a_member_of_a_gang_is_found_by_its_node() -> None:
    here = Place(first=Seat(node="a"), others=[Seat(node="b")])
    assert here.on_node("b") == {1}
    assert here.on_node("c") is None, "then all are left"
    assert Place(first=Seat(node="a")).on_node("a") is None, "there is only one"
