"""Go durations."""

import pytest
from pydantic import ValidationError

from api.duration import parse_duration
from api.spot_instance_vm import OnDemandFallback


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("1h", 3600),
        ("90s", 90),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        ("250ms", 0.25),
        ("5us", 5e-6),
        ("5µs", 5e-6),
        ("1000ns", 1e-6),
        ("1h2m3s4ms", 3723.004),
        ("1m1m", 120),
        ("0s", 0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "30", "m", "30 m", "-5m", "+5m", "1d", "1h30", "half an hour", ".5s", "1h\n", "5M"]
)
def test_what_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='"1h30m"'):
        parse_duration(text)


def test_a_duration_of_which_no_date_can_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 285 years"):
        parse_duration("9" * 30 + "h")
    with pytest.raises(ValidationError, match="longer than 285 years"):
        OnDemandFallback(after="9" * 30 + "h")
    assert parse_duration("2400000h").days == 100_000
