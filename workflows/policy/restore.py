"""Which restore point a replica starts from: the furthest that may still work."""

from collections.abc import Iterable
from datetime import datetime

from api.views import RestorePoint

BAD_AFTER_NODES = 2  # a node can be at fault once; the image is at fault when two could not start it


def usable(point: RestorePoint) -> bool:
    """Not yet known to be bad."""
    return len(set(point.failed_on)) < BAD_AFTER_NODES


def same(point: RestorePoint, other: RestorePoint) -> bool:
    """Both are the same images, or the same place in the bucket."""
    return (point.images, point.path) == (other.images, other.path)


def furthest(points: Iterable[RestorePoint]) -> RestorePoint | None:
    """By progress, not by time: an image written later by a replica that trains behind holds less.

    Reported figures and seconds are not comparable: where one point has a reported figure, one without (its log was
    not to be had) gives way.
    """
    fit = [point for point in points if usable(point)]
    return max(fit, key=_rank, default=None)


def keep(points: Iterable[RestorePoint], last: int) -> list[RestorePoint]:
    """The ``last`` furthest points and the furthest proven one, in the order given."""
    points = list(points)
    ranked = sorted(points, key=lambda point: (usable(point), *_rank(point)), reverse=True)
    kept = ranked[:last]
    proven = [point for point in ranked if point.proven and usable(point)]
    if proven and proven[0] not in kept:
        kept.append(proven[0])
    return [point for point in points if point in kept]


def _rank(point: RestorePoint) -> tuple[bool, float, datetime]:
    return point.reported, point.progress, point.created_at
