"""How long a failed step waits."""

import pytest

from workflows.policy.backoff import back_off


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 10), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (1_025, 300), (10**6, 300)]
)
def test_wait_doubles_up_to_thirty_times_the_first(failures: int, seconds: float) -> None:
    assert back_off(failures, 10).total_seconds() == seconds


@pytest.mark.parametrize(("failures", "seconds"), [(1, 180), (2, 360), (4, 1440), (5, 1800), (9, 1800)])
def test_ceiling_is_a_multiple_of_the_first_wait(failures: int, seconds: float) -> None:
    assert back_off(failures, 180, ceiling=10).total_seconds() == seconds


def test_factor_says_how_fast_it_grows() -> None:
    assert back_off(3, 1, factor=3).total_seconds() == 9
