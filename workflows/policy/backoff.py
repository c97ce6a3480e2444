"""How long to wait before a failed step is retried."""

from datetime import timedelta

from api.errors import CORRECTABLE
from workflows.policy.bounds import bounded

USUAL = 30.0
"""The ceiling of most waits, in first pauses: five minutes of ten seconds each."""
SOON = 12.0
"""The ceiling if a person may correct the cause at any moment: ten seconds grow to two minutes."""


def ceiling_after(reason: str) -> float:
    """Return the ceiling after a failure: nobody reports that a Secret or a right was corrected."""
    return SOON if reason in CORRECTABLE else USUAL


def back_off(failures: int, first: float, factor: float = 2.0, ceiling: float = USUAL) -> timedelta:
    """Return the wait after the ``failures``-th failure in a row: ``first`` seconds, growing to ``ceiling`` times that.

    Example:
        ``back_off(3, 10)`` is 40 seconds; however many failures there were, it never exceeds 300.
    """
    try:
        growth = min(float(factor) ** max(0, failures - 1), ceiling)
    except OverflowError:  # with a factor of 2 at the 1,025th failure
        growth = ceiling
    return timedelta(seconds=bounded(first * growth))
