"""How long a step that failed waits before it is tried again."""

from datetime import timedelta


def back_off(failures: int, first: float, factor: float = 2.0, ceiling: float = 30.0) -> timedelta:
    """Wait after the ``failures``-th failure in a row: ``first`` seconds, growing to ``ceiling`` times that."""
    return timedelta(seconds=first * min(factor ** max(0, failures - 1), ceiling))
