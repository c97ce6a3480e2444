"""Times as people read them."""

from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400


def now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def age(since: datetime | None) -> str:
    """Say how long ago a time was: ``3m``; ``-`` if there is none."""
    return span((now() - since).total_seconds()) if since is not None else "-"


def span(seconds: float) -> str:
    """Say how long something takes, with the two largest units at most: ``45s``, ``3m``, ``2h05m``, ``4d3h``."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d{whole % DAY // HOUR}h"
