"""Which restore point a replica starts from: the furthest that may still work."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from api.names import tag_in
from api.spot_instance_vm import Gpu
from api.views import RestorePoint
from workflows.state import Replica

BAD_AFTER_NODES = 2  # a node can be at fault once; the image is at fault when two could not start it

FINGERPRINT = {
    "gpu": "GPU",
    "gpuCount": "number of GPUs",
    "driver": "driver",
    "kernel": "kernel",
    "cpu": "CPU",
}
"""What a process image depends on, and how people call it."""


def usable(point: RestorePoint) -> bool:
    """Not yet known to be bad."""
    return len(set(point.failed_on)) < BAD_AFTER_NODES


def misfit(point: RestorePoint, machine: Mapping[str, str]) -> str:
    """Why a process image does not go on here: in what this machine differs from the one that it was dumped on.

    Empty where it fits. What is not known of one of the two is taken to fit.
    """
    return differences(point.fingerprint, machine)


def differences(there: Mapping[str, str], machine: Mapping[str, str]) -> str:
    """In what two machines differ that matters to a process image."""
    differing = [key for key in FINGERPRINT if key in there and key in machine and there[key] != machine[key]]
    return ", ".join(f"{FINGERPRINT[key]} {there[key]} there, {machine[key]} here" for key in differing)


def furthest(points: Iterable[RestorePoint], machine: Mapping[str, str] = MappingProxyType({})) -> RestorePoint | None:
    """By progress, not by time: an image written later by a replica that trains behind holds less.

    Of those that go on on this machine, by its fingerprint; without one, of all.

    Reported figures and seconds are not comparable: where one point has a reported figure, one without (its log was
    not to be had) gives way.
    """
    fit = [point for point in points if usable(point) and not misfit(point, machine)]
    return max(fit, key=_rank, default=None)


def keep(points: Iterable[RestorePoint], last: int, in_use: Iterable[RestorePoint] = ()) -> list[RestorePoint]:
    """The ``last`` furthest points, the furthest proven one and those in use, in the order given.

    Usable ones go before bad ones, so that the last usable one is never dropped as long as ``last`` is 1 at least.
    Where none of them goes on on the machine of the newest, as after a cold start on another kind, the furthest that
    does is kept, too.
    """
    points = list(points)
    ranked = sorted(points, key=lambda point: (usable(point), *_rank(point)), reverse=True)
    kept = ranked[:last]
    proven = [point for point in ranked if point.proven and usable(point)]
    if proven and proven[0] not in kept:
        kept.append(proven[0])
    newest = max(filter(usable, points), key=lambda point: point.created_at, default=None)
    if newest is not None and furthest(kept, newest.fingerprint) is None:
        kept += [point for point in [furthest(points, newest.fingerprint)] if point is not None]
    used = list(in_use)
    return [point for point in points if point in kept or any(same(point, other) for other in used)]


def same(one: RestorePoint, other: RestorePoint) -> bool:
    """The same images, though the digests of one were not known yet; or the same place in the bucket."""
    if "Storage" in {one.kind, other.kind}:
        return (one.kind, one.path) == (other.kind, other.path)
    return one.images == other.images or ("" not in _tags(one) and _tags(one) == _tags(other))


def _tags(point: RestorePoint) -> list[str]:
    return [tag_in(image) and image.partition("@")[0] for image in point.images.values()]


def restoring(replicas: Iterable[Replica]) -> list[RestorePoint]:
    """The points in use: a replica is being started from them, and does not run yet."""
    return [replica.restore for replica in replicas if replica.restore and replica.live and not replica.running_since]


def images_to_delete(dropped: Iterable[RestorePoint], kept: Iterable[RestorePoint]) -> list[str]:
    """Images of the dropped points that no kept one holds too, under whatever tag."""
    held = {part for point in kept for image in point.images.values() for part in (image, image.partition("@")[2])}
    images = [image for point in dropped for image in point.images.values()]
    return [image for image in images if image not in held and (image.partition("@")[2] or image) not in held]


def _rank(point: RestorePoint) -> tuple[bool, float, datetime]:
    return point.reported, point.progress, point.created_at


def gpu_of(point: RestorePoint | None) -> Gpu | None:
    """The GPUs of the machine that it was dumped on, None where they are not known."""
    there = point.fingerprint if point else {}
    known = "gpu" in there and there.get("gpuCount", "").isdigit()
    return Gpu(type=there["gpu"], count=int(there["gpuCount"])) if known else None
