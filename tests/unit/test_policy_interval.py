"""The interval between checkpoints, checked against published figures."""

import pytest

from workflows.job.checkpoints.policy.interval import (
    DEFAULT_SECONDS,
    FLOOR_SECONDS,
    choose,
    daly,
    smoothed,
    worth_reporting,
)


@pytest.mark.parametrize(
    ("cost", "mtbf", "expected"),
    [(5, 24 * 60, 117), (5, 6 * 60, 57), (5, 15, 9.1)],
    ids=["a day", "six hours", "a quarter of an hour"],
)
def test_published_values_of_dalys_formula_in_minutes(cost: float, mtbf: float, expected: float) -> None:
    assert daly(cost, mtbf) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("cost", [30, 31, 1000])
def test_checkpoint_that_takes_two_lives_of_a_machine_is_made_once_a_life(cost: float) -> None:
    assert daly(cost, 15) == 15


def test_formula_has_no_step_where_its_case_ends() -> None:
    assert daly(29.999, 15) == pytest.approx(daly(30, 15), rel=0.2)


@pytest.mark.parametrize(
    ("cost", "loss_rate", "expected"),
    [
        (300, 1 / 24, 117 * 60),
        (300, 1 / 6, 57 * 60),
        (300, 4, 9.1 * 60),
        (None, 4, DEFAULT_SECONDS),
        (0, 4, DEFAULT_SECONDS),
        (0.5, 4, FLOOR_SECONDS),
        (3600, 4, 3600),
    ],
    ids=["a day", "six hours", "a quarter of an hour", "not measured", "no figure", "the floor", "the cost itself"],
)
def test_choice_in_seconds(cost: float | None, loss_rate: float, expected: float) -> None:
    assert choose(cost, loss_rate).seconds == pytest.approx(expected, rel=0.01)


def test_reason_names_both_figures() -> None:
    assert choose(300, 1 / 24).reason == "a checkpoint takes 5 min, a machine is lost every 24.0 h"
    assert choose(90, 40).reason == "a checkpoint takes 90 s, a machine is lost every 90 s"
    assert "measured" in choose(None, 1).reason


def test_first_measurement_is_the_mean_and_later_ones_move_it() -> None:
    assert smoothed(None, 100) == 100
    assert smoothed(100, 200) == pytest.approx(130)


@pytest.mark.parametrize(
    ("told", "seconds", "expected"),
    [(None, 100, True), (100, 119, False), (100, 121, True), (100, 81, False), (100, 79, True)],
)
def test_change_beyond_a_fifth_is_told(told: float | None, seconds: float, expected: bool) -> None:
    assert worth_reporting(told, seconds) is expected
