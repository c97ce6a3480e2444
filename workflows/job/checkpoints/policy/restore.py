"""From which restore point a replica starts: the furthest that may still work."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from api.names import tag_in
from api.spot_instance_vm import Gpu
from api.views import RestorePoint
from workflows.job.state.replica import Replica

BAD_AFTER_NODES = 2
"""An image is at fault if this many nodes could not start it. A single node may be at fault itself."""

FINGERPRINT = {
    "gpu": "GPU",
    "gpuCount": "number of GPUs",
    "driver": "driver",
    "kernel": "kernel",
    "cpu": "CPU",
}
"""What a checkpoint image depends on, each with its name for people."""


def usable(point: RestorePoint) -> bool:
    """True if a restore point is not known to be bad."""
    return len(set(point.failed_on)) < BAD_AFTER_NODES


def misfit(point: RestorePoint, machine: Mapping[str, str]) -> str:
    """Say why an image does not fit a machine: in what it differs from the one on which the image was made.

    Empty if the image fits. What is not known of one of the two machines is taken to fit.
    """
    return differences(point.fingerprint, machine)


def differences(there: Mapping[str, str], machine: Mapping[str, str]) -> str:
    """Say in what two machines differ that matters to an image; empty if in nothing."""
    differing = [key for key in FINGERPRINT if key in there and key in machine and there[key] != machine[key]]
    return ", ".join(f"{FINGERPRINT[key]} {there[key]} there, {machine[key]} here" for key in differing)


def furthest(points: Iterable[RestorePoint], machine: Mapping[str, str] = MappingProxyType({})) -> RestorePoint | None:
    """Find the furthest usable restore point; None if there is none.

    Considers only images whose fingerprint matches this machine; without a fingerprint, all images. Points are compared
    by progress, not by time: a later image of a replica that trains behind contains less. Reported progress and
    training time cannot be compared, so points with reported progress go before those whose log could not be read.
    """
    fit = [point for point in points if usable(point) and not misfit(point, machine)]
    return max(fit, key=_rank, default=None)


def keep(points: Iterable[RestorePoint], last: int, in_use: Iterable[RestorePoint] = ()) -> list[RestorePoint]:
    """Choose the points to keep: the ``last`` furthest, the furthest proven one and those in use, in the order given.

    Usable points go before bad ones, so that the last usable one is never dropped if ``last`` is at least 1. If none of
    them fits the machine of the newest, as after a cold start on another kind of machine, the furthest that fits it is
    kept as well.
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
    """True if two points have the same path in the bucket, or the same images, even if digests are unknown."""
    if "Storage" in {one.kind, other.kind}:
        return (one.kind, one.path) == (other.kind, other.path)
    return one.images == other.images or ("" not in _tags(one) and _tags(one) == _tags(other))


def _tags(point: RestorePoint) -> list[str]:
    return [tag_in(image) and image.partition("@")[0] for image in point.images.values()]


def restoring(replicas: Iterable[Replica]) -> list[RestorePoint]:
    """List the points from which a replica is being started that does not run yet."""
    return [
        replica.run.restore
        for replica in replicas
        if replica.run.restore and replica.run.live and not replica.run.running_since
    ]


def images_to_delete(dropped: Iterable[RestorePoint], kept: Iterable[RestorePoint]) -> list[str]:
    """List the images of the dropped points that no kept point has under any tag."""
    in_use = {part for point in kept for image in point.images.values() for part in (image, image.partition("@")[2])}
    images = [image for point in dropped for image in point.images.values()]
    return [image for image in images if image not in in_use and (image.partition("@")[2] or image) not in in_use]


def _rank(point: RestorePoint) -> tuple[bool, float, datetime]:
    return point.reported, point.progress, point.created_at


def gpu_of(point: RestorePoint | None) -> Gpu | None:
    """Return the GPUs of the machine on which an image was made; None if unknown."""
    there = point.fingerprint if point else {}
    known = "gpu" in there and there.get("gpuCount", "").isdigit()
    return Gpu(type=there["gpu"], count=int(there["gpuCount"])) if known else None
