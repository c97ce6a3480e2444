"""How long a machine is kept on which no pod runs yet."""

from datetime import UTC, datetime, timedelta

import pytest

from activities.signatures import StartReading
from api.timings import Timings
from workflows.job.replica.policy.patience import released_at
from workflows.job.state.replica import Replica

NOW = datetime(2026, 11, 30, 10, tzinfo=UTC)
SILENT = StartReading()
PULLS = StartReading(busy="image x has been pulled since 10:00:00 UTC")


def minutes(
    reading: StartReading = SILENT, *, blocked: float | None = None, in_vain: int = 0, allowed: float = 7200
) -> float:
    """Return after how many minutes in its phase a replica's VM is released."""
    replica = Replica(index=0, since=NOW, in_vain=in_vain)
    since = None if blocked is None else NOW + timedelta(minutes=blocked)
    return (released_at(replica, reading, since, Timings(), allowed) - NOW).total_seconds() / 60


def test_silence_has_twenty_minutes_from_the_last_that_went_on() -> None:
    assert minutes() == 20
    assert minutes(StartReading(progressed_at=NOW + timedelta(minutes=30))) == 50
    assert minutes(StartReading(progressed_at=NOW - timedelta(days=1))) == 20


def test_work_has_all_that_is_allowed_and_no_more() -> None:
    assert minutes(PULLS) == 120
    assert minutes(PULLS, allowed=600) == 10
    assert minutes(StartReading(progressed_at=NOW + timedelta(days=9))) == 120


@pytest.mark.parametrize(("in_vain", "patience"), [(0, 10), (1, 2), (9, 2)])
def test_a_blocked_pod_waits_for_its_correction_on_the_first_vm(in_vain: int, patience: float) -> None:
    assert minutes(PULLS, blocked=5, in_vain=in_vain) == 5 + patience
