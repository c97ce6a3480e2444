"""How often machines are lost: what was read gives way to what is seen, and the nearest counts most."""

from datetime import timedelta

import pytest

from tests.unit.policy import NOW, ago
from workflows.market.exposure import MEMORY, SAME_EVENT, Exposure, Observations, loss_rate
from workflows.policy.loss_rate import PRIOR_HOURS, PRIOR_PER_HOUR

A, B, BIG = "us-central1-a/n1-standard-4", "us-central1-b/n1-standard-4", "us-central1-a/n1-standard-8"


def seen(*runs: tuple[str, float, float], lost: tuple[tuple[str, float], ...] = ()) -> Observations:
    """Count machines of these zones that ran from one age to another, and losses at some age, hours apart."""
    observations = Observations()
    for zone, since, until in runs:
        observations.ran(zone, since, until)
    for hours, (zone, age) in enumerate(lost):
        observations.lost(zone, age, NOW + timedelta(hours=hours))
    return observations


def test_before_anything_is_seen_it_is_the_published_rate() -> None:
    assert loss_rate(Observations(), A, 0) == PRIOR_PER_HOUR == pytest.approx(1 / 240)


def test_posterior_of_one_range_of_age_is_gammas() -> None:
    observations = seen((A, 6, 24), lost=((A, 7), (A, 8)))
    assert loss_rate(observations, A, 10) == pytest.approx((PRIOR_PER_HOUR * PRIOR_HOURS + 2) / (PRIOR_HOURS + 18))


@pytest.mark.parametrize(
    ("hours", "losses", "mtbf"),
    [(240_000, 1000, 240), (24_000, 4000, 6), (1_000, 0, 10_000)],
    ids=["as published", "a hard zone", "a quiet zone"],
)
def test_much_data_outweighs_the_prior(hours: float, losses: int, mtbf: float) -> None:
    cells = [Exposure(), Exposure(), Exposure(), Exposure(hours=hours, losses=losses)]
    assert 1 / loss_rate(Observations(cells={A: cells}), A, 30) == pytest.approx(mtbf, rel=0.05)


def test_older_experience_of_a_kind_fades() -> None:
    observations = seen((A, 0, 1 + MEMORY), lost=((A, 30),) * 10)
    observations.ran(A, 0, MEMORY)
    total = observations.of_kind(A)
    assert total.hours == pytest.approx(MEMORY)
    assert total.losses == pytest.approx(5, rel=0.01)


def test_of_a_kind_never_seen_the_others_tell() -> None:
    observations = seen((A, 0, 100), lost=((A, 30),) * 4)
    assert loss_rate(observations, "", 0) == loss_rate(observations, B, 50) > PRIOR_PER_HOUR


def test_hours_without_a_loss_lower_it_and_a_loss_raises_it() -> None:
    quiet, struck = seen((A, 6, 12)), seen((A, 6, 12), lost=((A, 8),))
    assert loss_rate(quiet, A, 8) < PRIOR_PER_HOUR < loss_rate(struck, A, 8)


def test_run_is_divided_among_the_ranges_of_age() -> None:
    assert [cell.hours for cell in seen((A, 0.5, 30)).cells[A]] == [0.5, 5, 18, 6]
    assert [cell.hours for cell in seen((A, 2, 3)).cells[A]] == [0, 1, 0, 0]


def test_the_nearest_observations_count_most() -> None:
    observations = seen((A, 0, 30), (B, 0, 30), lost=((A, 0.5), (A, 0.5), (A, 0.5)))
    young, old, other = loss_rate(observations, A, 0.5), loss_rate(observations, A, 10), loss_rate(observations, B, 10)
    assert young > old > other > loss_rate(seen((A, 0, 30), (B, 0, 30)), B, 10)


def test_machines_lost_in_one_tick_count_once_in_each_zone() -> None:
    observations = Observations()
    for late in (0, 1, 59):
        observations.lost(A, 0.5, NOW + timedelta(seconds=late))
    observations.lost(BIG, 0.5, NOW + timedelta(seconds=30))  # of the same zone
    observations.lost(B, 0.5, NOW)
    observations.lost(A, 0.5, NOW + SAME_EVENT)
    assert observations.cells[A][0].losses == 2
    assert observations.cells[B][0].losses == 1
    assert observations.of_kind(BIG).losses == 0


def test_it_survives_the_way_through_the_state() -> None:
    observations = seen((A, 0, 3), lost=((A, 2),))
    observations.lost(B, 0, ago(5))
    assert Observations.model_validate(observations.model_dump(mode="json")) == observations
