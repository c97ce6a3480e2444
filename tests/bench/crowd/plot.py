"""A plot of slopes as an SVG file: both axes logarithmic, so that what grows with its cause is a straight line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 40, 50
COLOURS = ("#1565c0", "#9e9e9e", "#2e7d32", "#ef6c00", "#6a1b9a", "#c62828")


def plot(title: str, across: str, series: Mapping[str, Points]) -> str:
    """Draw each series of (x, y), both above 0, with its name at its end."""
    series = {name: sorted(points) for name, points in series.items() if points}
    everything = [point for points in series.values() for point in points]
    if not everything:
        raise ValueError(f"{title}: there is nothing to plot")
    x = _Axis([point[0] for point in everything], LEFT, WIDTH - RIGHT)
    y = _Axis([point[1] for point in everything], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) // 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>',
    ]
    for value in x.ticks:
        at = x.at(value)
        parts.append(f'<line x1="{at:.0f}" y1="{TOP}" x2="{at:.0f}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(f'<text x="{at:.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,.10g}</text>')
    for value in y.ticks:
        at = y.at(value)
        parts.append(f'<line x1="{LEFT}" y1="{at:.0f}" x2="{WIDTH - RIGHT}" y2="{at:.0f}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.0f}" text-anchor="end">{value:,.10g}</text>')
    ends = _apart([y.at(points[-1][1]) for points in series.values()])
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        where = " ".join(f"{x.at(each):.1f},{y.at(value):.1f}" for each, value in points)
        parts.append(f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x.at(each):.1f}" cy="{y.at(value):.1f}" r="3" fill="{colour}"/>' for each, value in points
        ]
        beside = x.at(points[-1][0]) + 10
        parts.append(f'<text x="{beside:.0f}" y="{ends[number] + 4:.0f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """A logarithmic axis from the power of ten below the least value to that above the greatest."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        self._low, self._high = low, max(high, low + 1)
        self._begin, self._end = begin, end

    @property
    def ticks(self) -> list[float]:
        """Give the powers of ten."""
        return [10.0**power for power in range(self._low, self._high + 1)]

    def at(self, value: float) -> float:
        """Give the place of a value, in pixels."""
        return self._begin + (math.log10(value) - self._low) / (self._high - self._low) * (self._end - self._begin)


def _apart(places: Sequence[float], least: float = 15) -> list[float]:
    """Move labels down until none covers another."""
    found = list(places)
    last = -math.inf
    for number in sorted(range(len(found)), key=found.__getitem__):
        found[number] = last = max(found[number], last + least)
    return found
