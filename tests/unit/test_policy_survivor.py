"""Which replica is checkpointed, and which one is released."""

from typing import Any

import pytest

from api.views import ReplicaView
from tests.unit.policy import NOW, ago, node, pod, replica
from workflows.job.checkpoints.policy.survivor import (
    going,
    least_advanced,
    source_for_checkpoint,
    trains,
    unreachable,
)
from workflows.job.state.replica import Replica


def source(*replicas: Replica, nodes: dict[str, Any] | None = None, notices: tuple[str, ...] = ()) -> int | None:
    found = source_for_checkpoint(replicas, nodes or {}, notices, NOW)
    return found.index if found else None


@pytest.mark.parametrize(
    ("name", "view", "noticed", "expected"),
    [
        ("unknown", None, False, False),
        ("ready", node(), False, False),
        ("NotReady", node(ready=False), False, False),
        ("noticed", node(), True, True),
        ("noticed and unknown", None, True, True),
        ("marked", node(marks=["taint"]), False, True),
        ("gone", node(exists=False), False, True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_node_is_going(name: str, view: Any, noticed: bool, expected: bool) -> None:
    assert going("node-0", {"node-0": view} if view else {}, {"node-0"} if noticed else set()) is expected


def test_no_node_at_all_is_as_good_as_gone() -> None:
    assert going(None, {}, set())


def test_furthest_is_the_source() -> None:
    assert source(replica(0), replica(1, running_since=ago(90))) == 1


def test_training_before_the_restore_counts() -> None:
    assert source(replica(0, base_seconds=500, running_since=ago(1)), replica(1)) == 0


def test_lower_index_is_the_source_where_two_are_equal() -> None:
    assert source(replica(1), replica(0)) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "Starting"},
        {"phase": "Judging"},
        {"halt": "Suspended"},
        {"stalled": True},
        {"node": None},
        {"view": None},
        {"view": ReplicaView(job_name="job", pod=None)},
        {"view": ReplicaView(job_name="job", pod=pod(phase="Pending"))},
        {"view": ReplicaView(job_name="job", pod=pod(phase="Failed"))},
        {"view": ReplicaView(job_name="job", pod=pod(deleting=True))},
        {"view": ReplicaView(job_name="job", pod=pod(disrupted=True))},
    ],
    ids=str,
)
def test_unfit_replica_is_no_source_though_it_is_furthest(changes: dict[str, Any]) -> None:
    assert source(replica(0, **{"running_since": ago(900), **changes}), replica(1)) == 1


@pytest.mark.parametrize("view", [node(ready=False), node(marks=["taint"]), node(exists=False)], ids=str)
def test_replica_on_an_unfit_node_is_no_source(view: Any) -> None:
    assert source(replica(0, running_since=ago(900)), replica(1), nodes={"node-0": view}) == 1


def test_replica_on_a_noticed_node_is_no_source() -> None:
    assert source(replica(0, running_since=ago(900)), replica(1), notices=("node-0",)) == 1


def test_nobody_fit_is_no_source() -> None:
    assert source(replica(0), notices=("node-0",)) is None


def test_least_far_is_let_go() -> None:
    assert least_advanced([replica(0), replica(1, running_since=ago(90))], NOW) == replica(0)


def test_higher_index_is_let_go_where_two_are_equal() -> None:
    assert least_advanced([replica(0), replica(1)], NOW) == replica(1)


def test_one_that_does_not_run_is_let_go_first() -> None:
    assert least_advanced([replica(0, running_since=None), replica(1)], NOW) == replica(0, running_since=None)


def test_nobody_is_let_go_where_nobody_is() -> None:
    assert least_advanced([], NOW) is None


def silent(*replicas: Replica, nodes: dict[str, Any], notices: tuple[str, ...] = ()) -> int | None:
    found = unreachable(replicas, nodes, notices, NOW)
    return found.index if found else None


NOT_READY = {"node-0": node(ready=False), "node-1": node("node-1", ready=False)}


def test_only_a_silent_node_puts_a_replica_out_of_sight() -> None:
    assert silent(replica(0), nodes={}) is None
    assert silent(replica(0), nodes={"node-0": node()}) is None
    assert silent(replica(0), nodes=NOT_READY) == 0


def test_furthest_of_the_silent_ones_is_waited_for() -> None:
    assert silent(replica(0), replica(1, running_since=ago(90)), nodes=NOT_READY) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "Preempted"},
        {"halt": "Suspended"},
        {"stalled": True},
        {"view": ReplicaView(job_name="job", pod=pod(phase="Failed"))},
    ],
    ids=str,
)
def test_a_replica_that_does_not_train_is_not_waited_for(changes: dict[str, Any]) -> None:
    assert silent(replica(0, **changes), nodes=NOT_READY) is None


def test_a_replica_whose_machine_is_going_is_not_waited_for() -> None:
    assert silent(replica(0), nodes=NOT_READY, notices=("node-0",)) is None
    assert silent(replica(0), nodes={"node-0": node(ready=False, marks=["taint"])}) is None


def test_a_noticed_replica_can_still_be_dumped() -> None:
    assert trains(replica(0), {"node-0": node(marks=["taint"])})
    assert not trains(replica(0), NOT_READY)
