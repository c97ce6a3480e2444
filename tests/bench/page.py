"""The page that the benchmarks write, docs/benchmarks.md, and what its tables are made of."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence

from tests.e2e.rig import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"


def write(name: str, table: str) -> None:
    """Put a table between its marks in docs/benchmarks.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = DOCUMENT.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    DOCUMENT.write_text(f"{head}{begin}\n{table}\n{end}{tail}")


def where() -> str:
    """Say what it was measured on."""
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def percentile(values: Sequence[float], share: float) -> float:
    """Compute it by linear interpolation between the two nearest ranks."""
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))
