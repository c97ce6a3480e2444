"""The rules by which an elastic gang changes its size."""

from __future__ import annotations

import pytest

from api.gang import Gang
from workflows.job.machines.policy.size import goes_on_smaller, largest, sizes, starts_larger


@pytest.mark.parametrize(
    ("least", "most", "step", "allowed"),
    [(2, 4, 1, [2, 3, 4]), (2, 6, 2, [2, 4, 6]), (2, 7, 2, [2, 4, 6, 7]), (3, 3, 1, [3]), (1, 32, 32, [1, 32])],
)
def test_sizes_are_steps_from_the_least_and_the_most_itself(
    least: int, most: int, step: int, allowed: list[int]
) -> None:
    assert list(sizes(Gang(min_size=least, max_size=most, step=step))) == allowed


@pytest.mark.parametrize(("machines", "size"), [(0, 0), (1, 0), (2, 2), (3, 2), (5, 4), (6, 6), (9, 6)])
def test_the_largest_size_for_the_machines_that_are_there(machines: int, size: int) -> None:
    assert largest(Gang(min_size=2, max_size=6, step=2), machines) == size


def test_it_goes_on_smaller_if_a_restart_is_quicker_than_a_machine_or_none_is_to_be_had() -> None:
    assert goes_on_smaller(60, 240)
    assert not goes_on_smaller(240, 60)
    assert goes_on_smaller(240, None)


def test_a_restart_with_more_pays_if_machines_live_long() -> None:
    assert starts_larger(3, 4, restart=120, losses_per_hour=1 / 6)
    assert not starts_larger(15, 16, restart=120, losses_per_hour=1 / 6)
    assert starts_larger(12, 16, restart=120, losses_per_hour=1 / 6), "more that wait pay for one restart"
    assert not starts_larger(15, 16, restart=120, losses_per_hour=1 / 2)
    assert starts_larger(1, 2, restart=1e6, losses_per_hour=0), "nothing is ever lost"
