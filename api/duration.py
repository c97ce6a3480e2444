"""Go durations ("30m", "1h30m"), the form in which Kubernetes users write time."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field

PATTERN = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"
GoDuration = Annotated[str, Field(pattern=PATTERN, max_length=32)]
AUTO = "auto"
PATTERN_OR_AUTO = rf"^{AUTO}$|{PATTERN}"
GoDurationOrAuto = Annotated[str, Field(pattern=PATTERN_OR_AUTO, max_length=32)]

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> timedelta:
    """Read a duration in the syntax of Go's ``time.ParseDuration``, without a sign.

    Raises:
        ValueError: the text is not such a duration.
    """
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f'{text!r} is not a duration: write for example "30m" or "1h30m"')
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
