"""How long a step that failed waits before it is tried again."""

from datetime import timedelta

from workflows.policy.bounds import bounded

SOON = 12.0
"""The ceiling, in first pauses, where a person may correct the cause at any moment: two minutes of ten seconds each."""


def back_off(failures: int, first: float, factor: float = 2.0, ceiling: float = 30.0) -> timedelta:
    """Wait after the ``failures``-th failure in a row: ``first`` seconds, growing to ``ceiling`` times that."""
    try:
        growth = min(float(factor) ** max(0, failures - 1), ceiling)
    except OverflowError:  # with a factor of 2 at the 1,025th failure
        growth = ceiling
    return timedelta(seconds=bounded(first * growth))
