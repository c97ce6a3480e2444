"""Go durations ("30m", "1h30m"), the form in which Kubernetes users write time."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

PATTERN = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"
AUTO = "auto"
PATTERN_OR_AUTO = rf"^{AUTO}$|{PATTERN}"
LONGEST = timedelta(hours=2_500_000)
"""Somewhat below the limit of Go's 64 bits of nanoseconds, so whatever ``kubectl apply`` accepts can be read here."""

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> timedelta:
    """Read a duration in the syntax of Go's ``time.ParseDuration``, without a sign.

    Raises:
        ValueError: the text is no such duration, or longer than :data:`LONGEST`.
    """
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f'{text!r} is not a duration: write for example "30m" or "1h30m"')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than 285 years: write a shorter duration")
    return timedelta(seconds=seconds)


def _readable(text: str) -> str:
    if text != AUTO:
        parse_duration(text)
    return text


GoDuration = Annotated[str, Field(pattern=PATTERN, max_length=32), AfterValidator(_readable)]
GoDurationOrAuto = Annotated[str, Field(pattern=PATTERN_OR_AUTO, max_length=32), AfterValidator(_readable)]
