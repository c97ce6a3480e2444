"""The interval of ``checkpointInterval: auto``, from the duration of checkpoints and the loss rate of machines."""

from dataclasses import dataclass
from math import sqrt

from workflows.policy.bounds import LONGEST, bounded

DEFAULT_SECONDS = 1800.0
"""The interval until the first checkpoint is measured."""

FLOOR_SECONDS = 60.0
"""The shortest interval."""

WEIGHT = 0.3
"""The weight of the newest checkpoint in the mean: a slow registry shows, but a single delay does not decide."""

REPORTED_CHANGE = 0.2
"""The part by which the interval has to change before it is reported again."""


@dataclass(frozen=True)
class Choice:
    """An interval in seconds, and the reason for it."""

    seconds: float
    reason: str


def daly(cost: float, mtbf: float) -> float:
    """Return the interval between checkpoints that costs the least time, in the unit of both arguments.

    It is equation 37 of J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps",
    Future Generation Computer Systems 22 (2006) 303-312. Its first term is J. W. Young's (1974).

    Args:
        cost: The time that a checkpoint takes.
        mtbf: The mean time between losses.
    """
    if not 0 < cost < 2 * mtbf:
        return bounded(mtbf)
    ratio = cost / (2 * mtbf)
    return sqrt(2 * cost * mtbf) * (1 + sqrt(ratio) / 3 + ratio / 9) - cost


def choose(cost: float | None, loss_rate: float) -> Choice:
    """Choose the interval for checkpoints of ``cost`` seconds and ``loss_rate`` losses per hour.

    It is never shorter than a checkpoint takes, because checkpoints follow one another on the same node.
    """
    if cost is None or cost <= 0:
        return Choice(DEFAULT_SECONDS, "until a checkpoint is measured")
    mtbf = bounded(3600 / loss_rate) if loss_rate > 0 else LONGEST
    seconds = bounded(max(daly(cost, mtbf), cost, FLOOR_SECONDS))
    return Choice(seconds, f"a checkpoint takes {_text(cost)}, a machine is lost every {_text(mtbf)}")


def smoothed(mean: float | None, newest: float) -> float:
    """Return the mean duration of checkpoints, in seconds, after one more."""
    return newest if mean is None else mean + WEIGHT * (newest - mean)


def worth_reporting(reported: float | None, seconds: float) -> bool:
    """True if an interval differs by more than ``REPORTED_CHANGE`` from the one that was last reported."""
    return reported is None or abs(seconds - reported) > REPORTED_CHANGE * reported


def _text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
