"""The volumes of a template: whether they exist, can be shared by so many replicas, and from which nodes."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from activities.replicas.pods import all_containers
from api import reasons
from api.common import Condition, not_accepted
from api.names import is_segment, shown
from clients.kube import Json, Kube, KubeError, path

SHARED = {"ReadWriteMany", "ReadOnlyMany"}
STORAGE = "storage.k8s.io/v1"
IMMEDIATE = "Immediate"
"""The binding mode of a StorageClass whose claims are bound without a pod. The other mode waits for the first pod."""
ABSENT = "Absent"
UNKNOWN = "Unknown"
"""Used like binding modes if the StorageClass does not exist, or may not be read."""


@dataclass(frozen=True)
class Claim:
    """A claim that a template mounts.

    Attributes:
        name: the name of the PersistentVolumeClaim.
        exists: False if there is none of that name.
        phase: ``Bound``, ``Pending`` or ``Lost``.
        modes: the claim's access modes.
        volume: the PersistentVolume to which it is bound; empty if it is not.
        affinity: the NodeSelector of the nodes that reach the volume; None if all do, or if it is not known yet.
        written: True if some container mounts it for writing.
        storage_class: the StorageClass that it names; empty if none.
        binding: the ``volumeBindingMode`` of its StorageClass if it is not bound yet, or ``Absent`` or ``Unknown``.
    """

    name: str
    exists: bool = True
    phase: str = ""
    modes: tuple[str, ...] = ()
    volume: str = ""
    affinity: Json | None = None
    written: bool = True
    storage_class: str = ""
    binding: str = UNKNOWN


async def look_at_volumes(
    kube: Kube, namespace: str, pod: Json, replicas: int, members: int = 1
) -> tuple[list[Condition], list[str]]:
    """Say which volumes of a pod spec the replicas can never have, and what a person should know about the others."""
    claims, absent = await asyncio.gather(read_claims(kube, namespace, pod), inline_problems(kube, pod))
    problems = claim_problems(claims, replicas, namespace, members)
    return [*problems, *absent], claim_warnings(claims, replicas)


async def read_claims(kube: Kube, namespace: str, pod: Json) -> list[Claim]:
    """Read the claims that a pod spec mounts, each with the volume to which it is bound."""
    return list(await asyncio.gather(*(_read(kube, namespace, *each) for each in _mounted(pod).items())))


def _mounted(pod: Json) -> dict[str, bool]:
    """List the claims that a pod spec mounts, with True if it is written; empty if the spec is malformed."""
    try:
        volumes = [(name, volume) for volume in pod.get("volumes") or [] if (name := _claimed(volume))]
        return {name: _is_written(pod, volume) for name, volume in volumes}
    except (AttributeError, KeyError, TypeError):  # the API server reports it in the dry run
        return {}


async def _read(kube: Kube, namespace: str, name: str, written: bool) -> Claim:
    claim = await kube.find(path("v1", "persistentvolumeclaims", namespace, name)) if is_segment(name) else None
    if claim is None:
        return Claim(name, exists=False)
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    volume = spec.get("volumeName") or ""
    bound = await kube.find(path("v1", "persistentvolumes", name=volume)) if volume else None
    affinity = (((bound or {}).get("spec") or {}).get("nodeAffinity") or {}).get("required")
    modes, phase = tuple(spec.get("accessModes") or ()), status.get("phase") or ""
    storage_class = spec.get("storageClassName") or ""
    binding = await _binding(kube, storage_class) if phase == "Pending" and not volume else UNKNOWN
    return Claim(name, True, phase, modes, volume, affinity, written, storage_class, binding)


async def _binding(kube: Kube, storage_class: str) -> str:
    """Say when a StorageClass binds its claims; a claim without a class waits for a volume that a person makes."""
    if not is_segment(storage_class):
        return ABSENT
    try:
        found = await kube.find(path(STORAGE, "storageclasses", name=storage_class))
    except KubeError as error:
        if error.status != 403:
            raise
        return UNKNOWN
    return (found.get("volumeBindingMode") or IMMEDIATE) if found else ABSENT


async def inline_problems(kube: Kube, pod: Json) -> list[Condition]:
    """List the volumes whose driver the cluster lacks: a kubelet makes inline volumes only of registered drivers."""
    try:
        drivers = sorted({each["csi"]["driver"] for each in pod.get("volumes") or [] if each.get("csi")})
        absent = [each for each in drivers if is_segment(each) and not await _has_driver(kube, each)]
    except (AttributeError, KeyError, TypeError):  # the API server reports it in the dry run
        return []
    return [_without_driver(each) for each in absent]


async def _has_driver(kube: Kube, name: str) -> bool:
    try:
        return await kube.find(path(STORAGE, "csidrivers", name=name)) is not None
    except KubeError as error:
        if error.status != 403:
            raise
        return True


def _without_driver(name: str) -> Condition:
    message = (
        f"the cluster has no CSIDriver {name}, which a volume of jobTemplate needs: install that driver, so that it "
        "also runs on bought nodes, or correct the volumes of the jobTemplate"
    )
    return not_accepted(reasons.VOLUME_DRIVER_NOT_FOUND, message)


def _claimed(volume: Any) -> str | None:
    name: str | None = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    return name


def _is_written(pod: Json, volume: Json) -> bool:
    """True if some container may write the volume."""
    if volume["persistentVolumeClaim"].get("readOnly"):
        return False
    mounts = [mount for container in all_containers(pod) for mount in container.get("volumeMounts") or []]
    return any(mount.get("name") == volume.get("name") and not mount.get("readOnly") for mount in mounts)


def claim_problems(claims: Iterable[Claim], replicas: int, namespace: str, members: int = 1) -> list[Condition]:
    """List the claims with which the replicas, or the members of one, can never all run."""
    return [problem for claim in claims for problem in _problems(claim, replicas, namespace, members)]


def _problems(claim: Claim, replicas: int, namespace: str, members: int) -> Iterable[Condition]:
    if not claim.exists:
        message = (
            f"there is no PersistentVolumeClaim {shown(claim.name)[1:-1]} in namespace {namespace}: create it, or "
            "correct the volumes of the jobTemplate"
        )
        yield not_accepted(reasons.VOLUME_CLAIM_NOT_FOUND, message)
    elif claim.phase == "Lost":
        message = f"PersistentVolumeClaim {claim.name} has lost its volume {claim.volume}: create the claim again"
        yield not_accepted(reasons.VOLUME_CLAIM_LOST, message)
    elif replicas > 1 and not SHARED & set(claim.modes):
        message = (
            f"PersistentVolumeClaim {claim.name} is {' and '.join(claim.modes)}, and the {replicas} replicas are on "
            "different nodes: set replicas to 1, or use a claim that is ReadWriteMany"
        )
        yield not_accepted(reasons.VOLUME_NOT_SHAREABLE, message)
    elif members > 1 and not SHARED & set(claim.modes):
        message = (
            f"PersistentVolumeClaim {claim.name} is {' and '.join(claim.modes)}, and the {members} pods that train "
            "together are on different nodes: use a claim that is ReadWriteMany or ReadOnlyMany"
        )
        yield not_accepted(reasons.VOLUME_NOT_SHAREABLE, message)
    elif claim.binding in {ABSENT, IMMEDIATE}:
        message = f"PersistentVolumeClaim {claim.name} is not bound, and no pod runs before it is: {_unbound(claim)}"
        yield not_accepted(reasons.VOLUME_CLAIM_NOT_BOUND, message)


def _unbound(claim: Claim) -> str:
    """Say why a claim that does not wait for a pod is not bound, and what helps."""
    if not claim.storage_class:
        return "it names no StorageClass; create a PersistentVolume for it, or create it again with storageClassName"
    if claim.binding == ABSENT:
        return f"there is no StorageClass {claim.storage_class}; create that, or create the claim again with another"
    return (
        f"StorageClass {claim.storage_class} binds at once; `kubectl describe pvc {claim.name}` says what it waits for"
    )


def claim_warnings(claims: Iterable[Claim], replicas: int) -> list[str]:
    """List what a person should know about claims that can be used."""
    told = []
    for claim in claims:
        if replicas > 1 and claim.written and "ReadWriteMany" in claim.modes:
            told.append(
                f"all {replicas} replicas write to PersistentVolumeClaim {claim.name}: let each write into a directory "
                "of its own (by the file /etc/outlast/replica), or set replicas to 1"
            )
        if claim.phase == "Pending" and not claim.volume and claim.binding == UNKNOWN:
            told.append(
                f"PersistentVolumeClaim {claim.name} is not bound yet: no pod runs before it is, unless its "
                "StorageClass waits for the first one"
            )
    return told
