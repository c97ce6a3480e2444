"""How often to checkpoint where ``checkpointInterval`` is ``auto``: what saves the most, of two measured figures."""

from dataclasses import dataclass
from math import sqrt

from workflows.policy.bounds import LONGEST, bounded

DEFAULT_SECONDS = 1800.0
"""Before a checkpoint was measured."""
FLOOR_SECONDS = 60.0
WEIGHT = 0.3
"""Of the newest checkpoint in the mean of what they take: a slow registry shows, a single hiccup does not rule."""
TELLING = 0.2
"""Part by which the interval has to change before people are told of it."""


@dataclass(frozen=True)
class Choice:
    """An interval in seconds, and why."""

    seconds: float
    reason: str


def daly(cost: float, mtbf: float) -> float:
    """The interval between checkpoints that costs the least time, in the unit of both arguments.

    J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future Generation
    Computer Systems 22 (2006) 303-312, equation 37; its first term is J. W. Young's (1974). ``cost`` is what a
    checkpoint takes, ``mtbf`` the mean time between losses.
    """
    if not 0 < cost < 2 * mtbf:
        return bounded(mtbf)
    ratio = cost / (2 * mtbf)
    return sqrt(2 * cost * mtbf) * (1 + sqrt(ratio) / 3 + ratio / 9) - cost


def choose(cost: float | None, hazard: float) -> Choice:
    """The interval for checkpoints of ``cost`` seconds and ``hazard`` losses an hour.

    Never shorter than a checkpoint takes, for they follow one another on the same node.
    """
    if cost is None or cost <= 0:
        return Choice(DEFAULT_SECONDS, "until a checkpoint is measured")
    mtbf = bounded(3600 / hazard) if hazard > 0 else LONGEST
    seconds = bounded(max(daly(cost, mtbf), cost, FLOOR_SECONDS))
    return Choice(seconds, f"a checkpoint takes {_text(cost)}, a machine is lost every {_text(mtbf)}")


def smoothed(mean: float | None, newest: float) -> float:
    """The mean of what checkpoints take, with one more."""
    return newest if mean is None else mean + WEIGHT * (newest - mean)


def worth_telling(told: float | None, seconds: float) -> bool:
    """It differs by more than ``TELLING`` from what people were told."""
    return told is None or abs(seconds - told) > TELLING * told


def _text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
