"""A meter that remembers: what was measured, by metric and labels."""

from collections import defaultdict
from typing import Any

from temporalio.common import MetricMeter

Labels = tuple[tuple[str, str], ...]


class Instrument:
    """A metric of any kind: a gauge has its last value, all others have all of them."""

    def __init__(self, name: str, values: dict[tuple[str, Labels], list[float]]) -> None:
        self.name = name
        self._values = values

    def set(self, value: float, labels: dict[str, str] | None = None) -> None:
        self._of(labels)[:] = [value]

    def record(self, value: float, labels: dict[str, str] | None = None) -> None:
        self._of(labels).append(value)

    add = record

    def _of(self, labels: dict[str, str] | None) -> list[float]:
        return self._values[self.name, tuple(sorted((labels or {}).items()))]


class Meter(MetricMeter):
    """Makes instruments, all of which write into ``values``."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, Labels], list[float]] = defaultdict(list)

    def create_gauge(self, name: str, *_: Any) -> Any:
        return Instrument(name, self.values)

    create_counter = create_histogram = create_histogram_float = create_histogram_timedelta = create_gauge
    create_gauge_float = create_gauge

    def with_additional_attributes(self, additional_attributes: Any) -> MetricMeter:
        return self

    def of(self, name: str, **labels: str) -> list[float]:
        """Give the values of a metric with these labels, and any others."""
        return [
            value
            for (metric, found), values in self.values.items()
            if metric == name and labels.items() <= dict(found).items()
            for value in values
        ]

    def labels(self, name: str) -> set[str]:
        """Give the names of the labels that a metric has had."""
        return {label for metric, found in self.values for label, _ in found if metric == name}
