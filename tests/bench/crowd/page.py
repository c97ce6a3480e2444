"""The crowds' part of docs/benchmarks.md: the table, and a plot of each slope in docs/images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tests.bench import page
from tests.bench.crowd.figures import Figures, table
from tests.bench.crowd.plot import plot

WIDE = "crowd-wide"
TABLES = ("crowd", "crowd-beside", "crowd-idle", WIDE)
"""The names of the tables: of all steps; of a storm while others join and look for machines; of many that idle; of
several workers, and of Temporal on PostgreSQL."""
IMAGES = page.DOCUMENT.parent / "images"

Read = Callable[[Figures], float | None]

SLOPES: dict[str, tuple[str, Mapping[str, Read]]] = {
    "storm": (
        "Seconds until the last checkpoint of a storm is requested",
        {"Outlast": lambda row: row.storm_last, "floor": lambda row: row.storm_floor_last},
    ),
    "start": (
        "Seconds until all replicas run",
        {"Outlast": lambda row: row.start, "floor": lambda row: row.start_floor},
    ),
    "memory": (
        "MB of memory",
        {"worker": lambda row: row.megabytes.get("worker"), "bridge": lambda row: row.megabytes.get("bridge")},
    ),
    "restart": (
        "Seconds after the bridge's start",
        {
            "matched": lambda row: row.restart,
            "last notice": lambda row: row.restart_notice_last,
        },
    ),
}
"""Each plot's title and lines, by the name of its file."""


def write(name: str, rows: Sequence[Figures], load: float) -> None:
    """Write one of the tables and its plots; ``load`` is that of the machine before it was measured."""
    drawn = [slope for slope in SLOPES if _draw(name, slope, rows)] if len({row.jobs for row in rows}) > 1 else []
    shown = [f"![{SLOPES[slope][0]}](images/{name}-{slope}.svg)" for slope in drawn]
    busy = f"load {load:.1f} just before (five minutes)"
    command = "python -m tests.bench.crowd" if name == WIDE else "make bench"
    measured = f"{time.strftime('%Y-%m-%d')}, on {page.where()}; {busy}; `{command}`."
    page.write(name, "\n".join([table(rows), "", measured, *([""] if shown else []), *shown]))


def _draw(name: str, slope: str, rows: Sequence[Figures]) -> bool:
    """Draw a plot if anything of it was measured in two crowds or more."""
    title, lines = SLOPES[slope]
    series = {
        line: [(float(row.jobs), value) for row in rows if (value := read(row)) is not None and value > 0]
        for line, read in lines.items()
    }
    if max(map(len, series.values())) < 2:
        return False
    (IMAGES / f"{name}-{slope}.svg").write_text(plot(title, "jobs", series))
    return True
