"""Who is to blame for the end of a training."""

import pytest

from tests.unit.policy import NOW, ago, point, replica
from workflows.job.replica.policy.blame import (
    at_the_same_place,
    death_of,
    ended_soon,
    is_proven,
    killed_by,
)
from workflows.job.state.checkpoint import Death
from workflows.job.state.replica import Dump


def dump(begun: float, ended: float | None = None, incarnation: int = 0) -> Dump:
    at = None if ended is None else ago(ended)
    return Dump(number=1, incarnation=incarnation, requested_at=ago(begun), ended_at=at)


@pytest.mark.parametrize(
    ("made", "code", "killed"),
    [
        (dump(3), 137, True),
        (dump(3), 143, True),
        (dump(3), 134, True),
        (dump(3), 1, False),
        (dump(3), 0, False),
        (dump(3), None, False),
        (dump(100, 59), 137, True),
        (dump(100, 61), 137, False),
        (dump(-1), 137, False),
        (dump(3, incarnation=1), 137, False),
        (None, 137, False),
    ],
)
def test_a_checkpoint_kills_by_a_signal_while_it_is_made_or_shortly_afterwards(
    made: Dump | None, code: int | None, killed: bool
) -> None:
    assert killed_by(made, 0, code, NOW) is killed


def test_an_image_is_to_blame_for_five_minutes_or_for_an_hour_without_progress() -> None:
    assert ended_soon(point(), 299, unproven=False)
    assert not ended_soon(point(), 301, unproven=False)
    assert ended_soon(point(), 3599, unproven=True)
    assert not ended_soon(point(), 3601, unproven=True)
    assert not ended_soon(None, 1, unproven=False)
    assert not ended_soon(point(kind="Storage", path="p"), 1, unproven=False), "the training saved that itself"


def test_it_is_proven_by_a_minute_and_by_two_figures() -> None:
    assert is_proven(60, None, None, reported=False)
    assert not is_proven(59, None, None, reported=False)
    assert not is_proven(600, None, None, reported=True)
    assert not is_proven(600, 7, 7, reported=True)
    assert is_proven(60, 7, 8, reported=True)


def test_the_same_place_after_another_start_is_the_trainings_own() -> None:
    before = [Death(start="a", position=100, reported=True)]
    assert at_the_same_place(Death(start="b", position=100, reported=True), before)
    assert not at_the_same_place(Death(start="a", position=100, reported=True), before), "the same image says nothing"
    assert not at_the_same_place(Death(start="b", position=101, reported=True), before)
    assert not at_the_same_place(Death(start="b", position=100), before), "seconds are not its figures"
    seconds = [Death(start="a", position=100)]
    assert at_the_same_place(Death(start="b", position=129), seconds)
    assert not at_the_same_place(Death(start="b", position=131), seconds)


def test_a_death_is_where_the_training_was() -> None:
    image = point(500, reported=True)
    assert death_of(replica(reading=7.0), 60).position == 7
    assert death_of(replica(restore=image), 60) == Death(start=image.label, position=500, reported=True)
    assert death_of(replica(restore=point(), base_seconds=40), 60).position == 100
