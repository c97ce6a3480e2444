"""Disruptions and failures, after which the machine stays up, as values."""

import pytest

from workflows.job.replica.policy.ends import (
    End,
    Kind,
    after_a_good_run,
    count,
    leaves,
    left,
    ran_well,
)
from workflows.job.state.replica import Ends


def tell(kinds: list[Kind], *, node: str = "n", ends: Ends | None = None) -> tuple[Ends, list[bool]]:
    """Count the ends one after the other, and say after each whether the machine is left, which is counted, too."""
    ends, went = ends or Ends(), []
    for kind in kinds:
        end = End(kind=kind, node=node, why="exit code 1")
        ends = count(ends, end)
        went.append(leaves(ends, end))
        ends = left(ends, end) if went[-1] else ends
    return ends, went


def test_the_second_end_in_a_row_leaves_the_machine() -> None:
    ends, went = tell(["Disrupted", "NeverRan"])
    assert went == [False, True]
    assert (ends.machines, ends.here) == (1, 0)


def test_a_training_that_fails_on_two_machines_stays_on_the_second() -> None:
    ends, first = tell(["Failed", "Failed"])
    _, second = tell(["Failed", "Failed", "Failed"], node="other", ends=ends)
    assert (first, second) == ([False, True], [False, False, False])


def test_what_is_told_after_the_first_end_is_nothing() -> None:
    assert tell(["Disrupted"])[0].reason == ""


def test_another_machine_begins_anew() -> None:
    ends, _ = tell(["Disrupted"])
    assert tell(["Disrupted"], node="other", ends=ends)[1] == [False]


def test_a_drained_machine_is_left_at_the_first_end() -> None:
    end = End(kind="Disrupted", node="n", why="", leave="Drained")
    assert leaves(count(Ends(), end), end)


def test_where_the_training_failed_is_remembered_beyond_a_good_run() -> None:
    ends, _ = tell(["Failed"])
    assert tell(["Failed"], ends=after_a_good_run(ends))[1] == [True]
    evicted, _ = tell(["Disrupted"])
    assert tell(["Disrupted"], ends=after_a_good_run(evicted))[1] == [False]


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        ("Evicted: The node was low on resource: memory.", "EvictedAgainAndAgain", "request the memory"),
        ("EvictionByEvictionAPI: Eviction API: evicting", "EvictedAgainAndAgain", "descheduler"),
        ("PreemptionByScheduler: preempting", "EvictedAgainAndAgain", "priorityClassName"),
        ("Unheard: of", "EvictedAgainAndAgain", "Unheard: of"),
        (None, "DeletedAgainAndAgain", "audit log"),
    ],
)
def test_the_condition_names_who_evicts_and_what_helps(said: str | None, reason: str, remedy: str) -> None:
    end = End(kind="Disrupted", node="n", why="its pod is gone", disruption=said)
    ends = count(count(Ends(), end), end)
    assert ends.reason == reason
    assert remedy in ends.message


@pytest.mark.parametrize(
    ("seconds", "saved", "well"), [(599, True, False), (600, True, True), (3599, False, False), (3600, False, True)]
)
def test_a_run_is_a_good_one_once_it_lasted_and_left_something(seconds: float, saved: bool, well: bool) -> None:
    assert ran_well(seconds, saved=saved) is well
