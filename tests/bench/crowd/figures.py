"""The figures of one crowd, with what they are measured against, and their place in docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from sandbox.settings import TemporalService
from tests.bench.crowd.stage import MEASURING

KINDS = ("worker", "bridge")
SPENDERS = ("worker", "bridge", "temporal", "postgres", "kube-apiserver", "etcd", MEASURING)
WAY = {
    "signalled": "the mark to the signal",
    "decided": "the signal to the request of the activity",
    "begun": "the request to the activity's begin",
    "called": "the activity",
}
"""Words for the parts of a notice's way."""
DATABASES: dict[TemporalService, str] = {"development": "SQLite", "postgresql": "PostgreSQL"}
NONE = "-"


@dataclass
class Figures:
    """One run with so many jobs. Seconds, except where the name says otherwise; None if it was not measured."""

    jobs: int
    workers: int = 1
    """Worker processes."""
    service: TemporalService = "development"
    start: float | None = None
    """From the first job's creation until all replicas run."""
    start_floor: float | None = None
    """The same for bare workflows that make as many actions."""
    start_spent: dict[str, int] = field(default_factory=dict)
    """Milliseconds of a processor until then, by process."""
    start_floor_spent: dict[str, int] = field(default_factory=dict)
    start_actions: float | None = None
    """Temporal actions a job."""
    megabytes: dict[str, float] = field(default_factory=dict)
    """Memory in all, by process."""
    idle_cores: dict[str, float] = field(default_factory=dict)
    single_p50: float | None = None
    single_p99: float | None = None
    singles: int = 0
    storm_p50: float | None = None
    storm_last: float | None = None
    storm_marked: int = 0
    storm_lost: int = 0
    storm_doubled: int = 0
    storm_beside: int = 0
    """How many VMs joined meanwhile, and how many replicas looked for one in vain."""
    storm_way: dict[str, float] = field(default_factory=dict)
    """Medians of the parts of the way, by the names of ``Waypoints``."""
    storm_spent: dict[str, int] = field(default_factory=dict)
    """Milliseconds of a processor until the last checkpoint was requested, by process."""
    storm_floor_p50: float | None = None
    storm_floor_last: float | None = None
    storm_floor_spent: dict[str, int] = field(default_factory=dict)
    restart: float | None = None
    """From the start of the new bridge's process until everything is matched."""
    restart_messages: int | None = None
    restart_noticed: int = 0
    restart_notice_last: float | None = None

    @property
    def storm_ratio(self) -> float | None:
        """The last checkpoint's request, in floors."""
        return ratio(self.storm_last, self.storm_floor_last)

    @property
    def start_ratio(self) -> float | None:
        """The start, in floors."""
        return ratio(self.start, self.start_floor)


def ratio(ours: float | None, floor: float | None) -> float | None:
    """Divide, if both were measured."""
    return ours / floor if ours is not None and floor else None


def _spent(ours: Mapping[str, int], floor: Mapping[str, int]) -> str:
    """Divide the processor time of all but what measures by that of the floor: busy machines change it least."""
    both = [sum(spent for name, spent in each.items() if name != MEASURING) for each in (ours, floor)]
    return _number(ratio(*both)) if all(both) else NONE


def table(rows: Sequence[Figures]) -> str:
    """Write the table, a column for each crowd."""
    lines: list[tuple[str, list[str]]] = [
        *(_setting("worker processes", [str(row.workers) for row in rows], "1")),
        *(_setting("Temporal's database", [DATABASES[row.service] for row in rows], DATABASES["development"])),
        ("start: all replicas run, s", [_number(row.start) for row in rows]),
        ("its floor, s", [_number(row.start_floor) for row in rows]),
        ("**start, in floors**", [_number(row.start_ratio) for row in rows]),
        *(
            (f"start: processor ms a job, {name}", [_each(row.start_spent, name, row.jobs) for row in rows])
            for name in SPENDERS
        ),
        ("the same of all, in floors", [_spent(row.start_spent, row.start_floor_spent) for row in rows]),
        ("start: Temporal actions a job", [_number(row.start_actions) for row in rows]),
        ("single notice: p50, s", [_number(row.single_p50) for row in rows]),
        ("single notice: p99, s", [_number(row.single_p99) for row in rows]),
        ("storm: notices at once", [str(row.storm_marked or NONE) for row in rows]),
        ("storm: p50, s", [_number(row.storm_p50) for row in rows]),
        *((f"of which {text}, s", [_number(row.storm_way.get(name)) for row in rows]) for name, text in WAY.items()),
        ("storm: the last, s", [_number(row.storm_last) for row in rows]),
        ("its floor: the last, s", [_number(row.storm_floor_last) for row in rows]),
        ("**storm, in floors**", [_number(row.storm_ratio) for row in rows]),
        *(
            (f"storm: processor ms a notice, {name}", [_each(row.storm_spent, name, row.storm_marked) for row in rows])
            for name in SPENDERS
        ),
        ("the same of all, in floors", [_spent(row.storm_spent, row.storm_floor_spent) for row in rows]),
        ("storm: lost, doubled", [_both(row) for row in rows]),
        ("beside it: joining, and looking in vain", [str(row.storm_beside) for row in rows]),
        *((f"{kind}: MB in all", [_number(row.megabytes.get(kind)) for row in rows]) for kind in KINDS),
        *((f"{kind}: KB for each further job", _further(rows, kind)) for kind in KINDS),
        *((f"{kind}: cores while idle", [_number(row.idle_cores.get(kind)) for row in rows]) for kind in KINDS),
        ("bridge restart: all matched, s", [_number(row.restart) for row in rows]),
        ("bridge restart: messages sent", [_whole(row.restart_messages) for row in rows]),
        ("bridge restart: notices that waited", [str(row.restart_noticed or NONE) for row in rows]),
        ("their last checkpoint request, s", [_number(row.restart_notice_last) for row in rows]),
    ]
    head = ["| jobs of two replicas | " + " | ".join(f"{row.jobs:,}" for row in rows) + " |"]
    head.append("|---|" + "---:|" * len(rows))
    told = [(name, values) for name, values in lines if any(value not in (NONE, "0") for value in values)]
    return "\n".join([*head, *(f"| {name} | " + " | ".join(values) + " |" for name, values in told)])


def _setting(name: str, values: list[str], usual: str) -> list[tuple[str, list[str]]]:
    """Make a line of a setting, if one is not the usual."""
    return [(name, values)] if set(values) != {usual} else []


def _each(spent: Mapping[str, int], process: str, among: int) -> str:
    """Give what a process used for each notice or job."""
    return _number(spent[process] / among) if process in spent and among else NONE


def _further(rows: Sequence[Figures], kind: str) -> list[str]:
    """Compute the memory that each job takes beyond those of the crowd before."""
    found = [NONE]
    for before, row in pairwise(rows):
        alike = (row.workers, row.service) == (before.workers, before.service)
        jobs, less, more = row.jobs - before.jobs, before.megabytes.get(kind), row.megabytes.get(kind)
        found.append(
            NONE if less is None or more is None or jobs <= 0 or not alike else _number((more - less) * 1024 / jobs)
        )
    return found


def as_json(row: Figures) -> str:
    """Write one line."""
    return json.dumps({name: _rounded(value) for name, value in asdict(row).items()})


def from_json(line: str) -> Figures:
    """Read one line."""
    return Figures(**json.loads(line))


def in_order(rows: Sequence[Figures]) -> list[Figures]:
    """Order the crowds by size; of crowds that are alike only the last one counts."""
    alike = {(row.service, row.workers, row.jobs): row for row in rows}
    return [alike[key] for key in sorted(alike)]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _whole(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _both(row: Figures) -> str:
    return f"{row.storm_lost}, {row.storm_doubled}" if row.storm_marked else NONE
