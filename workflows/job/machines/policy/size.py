"""How many members an elastic gang trains with: go on with fewer or wait, and when to start again with more.

The rules come from the time that is lost. Going on with fewer costs two restarts, waiting costs the time until the
replacement. Measured and simulated figures are in ``docs/decisions/0041-when-a-gang-goes-on-smaller.md``.
"""

from collections.abc import Sequence

from api.gang import Gang
from workflows.job.state.replica import Place

RESTART_SECONDS = 60.0
"""How long a gang takes from its last step to the next one on machines that are there, before that was measured."""

REPLACEMENT_SECONDS = 240.0
"""How long the next machine takes, from the decision to buy it to its Ready Node, before that was measured."""


def sizes(gang: Gang) -> Sequence[int]:
    """List the sizes with which a gang may train, the smallest first. ``maxSize`` is always one of them."""
    return [*range(gang.min_size, gang.max_size, gang.step), gang.max_size]


def largest(gang: Gang | None, machines: int) -> int:
    """Return the largest size for which so many machines are enough; 0 if they are not enough for any.

    A replica without ``spec.gang`` has no sizes to choose from.
    """
    if gang is None:
        return 0
    return max((size for size in sizes(gang) if size <= machines), default=0)


def restart_seconds(place: Place) -> float:
    """Return how long a restart of this gang is expected to take."""
    return place.restart_seconds or RESTART_SECONDS


def goes_on_smaller(restart: float, replacement: float | None) -> bool:
    """True if training on with fewer members until the replacement comes loses less than waiting for it.

    Args:
        restart: The seconds of a restart.
        replacement: The seconds until the missing machines are there; None if nobody knows.
    """
    return replacement is None or restart < replacement


def starts_larger(size: int, larger: int, restart: float, losses_per_hour: float) -> bool:
    """True if a restart with more members pays before the next loss is likely to undo it.

    ``k`` more members do as much more as ``k / size`` of the gang, until the next loss of any of its machines, which
    comes after ``mean life / size``. The restart costs ``restart`` seconds of the whole gang.
    """
    life = 3600.0 / max(losses_per_hour, 1e-6)
    return (larger - size) * life > size**2 * restart
