"""Boot disks that each machine family takes, so that what GCE refuses is refused before anything is bought. Pure.

https://cloud.google.com/compute/docs/disks/hyperdisks and https://cloud.google.com/compute/docs/disks/persistent-disks
"""

import re

STANDARD, BALANCED, HYPERDISK = "pd-standard", "pd-balanced", "hyperdisk-balanced"

_OLD = re.compile(r"^(a2|c2|c2d|custom|e2|f1|g1|m1|m2|n1|n2|n2d|t2a|t2d)-")
"""Families that take every kind of Persistent Disk."""
_NO_STANDARD = re.compile(r"^(a3-(high|mega|edge)gpu|c3|c3d|g2|h3|m3|z3)-")
"""Families that take Persistent Disks, but not on hard drives."""
_HYPERDISK_ONLY = re.compile(r"^(a3-ultragpu|a4|a4x|c4|c4a|c4d|g4|h4d|m4|n4|n4a|n4d|x4)-")
"""Families that take no Persistent Disk at all."""
_NO_HYPERDISK_BALANCED = re.compile(r"^(a2|c2|c2d|custom|e2|f1|g1|g2|n1|n2|n2d|t2a|t2d)-")
_NOT_FOR_BOOTING = ("hyperdisk-ml", "hyperdisk-throughput")


def default_disk_type(machine_type: str) -> str:
    """Choose the cheapest boot disk that the machine type takes; a family unknown here is taken for a new one."""
    if _OLD.match(machine_type):
        return STANDARD
    return BALANCED if _NO_STANDARD.match(machine_type) else HYPERDISK


def disk_problem(machine_type: str, disk_type: str | None) -> str | None:
    """Say why GCE would not boot this machine type from this disk, and what to write; None if it would."""
    if disk_type is None or not _refused(machine_type, disk_type):
        return None
    return (
        f"diskType: {machine_type} does not boot from {disk_type}: write {default_disk_type(machine_type)}, or leave "
        "diskType out"
    )


def _refused(machine_type: str, disk_type: str) -> bool:
    if disk_type in _NOT_FOR_BOOTING:
        return True
    if disk_type.startswith("pd-"):
        return bool(_HYPERDISK_ONLY.match(machine_type)) or (
            disk_type == STANDARD and bool(_NO_STANDARD.match(machine_type))
        )
    return disk_type == HYPERDISK and bool(_NO_HYPERDISK_BALANCED.match(machine_type))
