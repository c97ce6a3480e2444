"""Orphans, and workflows that are stuck."""

from datetime import datetime
from typing import Literal

from activities.signatures.base import Done, JobRef, Signature
from activities.signatures.checkpoints import CheckpointRef, DeleteImages
from activities.signatures.machines import NodeRef
from api.messages import VmStart
from api.model import Model
from api.sweep import Stuck


class SweepRequest(Model):
    """Look for what no open workflow of this cluster looks after."""

    cluster_id: str
    namespace: str = ""  # the installation's namespace, to which an alarm's Event goes
    grace: float = 600  # seconds; the owner of anything younger may not have recorded it yet
    dry_run: bool = False  # report, and change nothing
    anyway: bool = False  # a person has seen the alarm: sweep even though there are many
    images_after: float | None = None  # seconds; None: images of jobs that are gone are kept


class Orphan(Model):
    """A VM whose workflow is not open; ``names`` lists its instances and Nodes."""

    start: VmStart
    names: list[str]


class Orphans(Model):
    """``seen`` counts all machines of the cluster, so that many orphans at once can be distinguished from a few."""

    orphans: list[Orphan] = []
    seen: int = 0
    jobs: list[str] = []  # ids of the jobs that have machines, owned or not
    unreadable: list[str] = []  # projects that could not be listed, with the reason


class OrphanedTaint(Model):
    """A preemption taint on a Node that outlived the notice."""

    node: NodeRef
    taint: str
    value: str


class OrphanedObjects(Model):
    """CheckpointBackups of jobs that are gone, preemption taints that nobody removes, and how many there are in all."""

    checkpoints: list[CheckpointRef] = []
    checkpoints_seen: int = 0
    taints: list[OrphanedTaint] = []
    taints_seen: int = 0


class OrphanedClaim(Model):
    """A Lease on a CDI device, as it was seen: one that was taken over since has another version."""

    name: str
    version: str


class OrphanedClaims(Model):
    """Leases by which nobody has a device any more, and how many there are in all."""

    claims: list[OrphanedClaim] = []
    seen: int = 0


class OrphanedFinalizers(Model):
    """Jobs that are gone and whose finalizers still protect Secrets or SpotInstanceVMs; how many jobs protect any."""

    jobs: list[JobRef] = []
    seen: int = 0


class OrphanedImages(Model):
    """A deletion for each job that is gone and each repository in which it has left images."""

    deletions: list[DeleteImages] = []
    seen: int = 0
    unreadable: list[str] = []  # repositories that could not be listed, with the reason


class FoundStuck(Model):
    """Stuck workflows: the first few of them, and how many of each type there are."""

    workflows: list[Stuck] = []
    counts: dict[str, int] = {}
    blind: str | None = None  # why the service cannot say


class TellStuck(Model):
    """Report on jobs that their workflows are stuck, or have recovered."""

    stuck: list[Stuck] = []
    well_again: list[Stuck] = []
    at: datetime


class SweepAlarm(Model):
    """Create a Warning on the worker's Deployment."""

    namespace: str
    message: str
    at: datetime
    reason: Literal["SweepStopped", "WorkflowStuck"] = "SweepStopped"


FIND_ORPHANS = Signature("find_orphans", SweepRequest, Orphans, timeout=60)
FIND_ORPHANED_OBJECTS = Signature("find_orphaned_objects", SweepRequest, OrphanedObjects, timeout=60)
FIND_ORPHANED_CLAIMS = Signature("find_orphaned_claims", SweepRequest, OrphanedClaims, timeout=60)
FIND_ORPHANED_FINALIZERS = Signature("find_orphaned_holds", SweepRequest, OrphanedFinalizers, timeout=60)
FIND_ORPHANED_IMAGES = Signature("find_orphaned_images", SweepRequest, OrphanedImages, timeout=60)
FIND_STUCK = Signature("find_stuck", SweepRequest, FoundStuck, timeout=30)
TELL_STUCK = Signature("tell_stuck", TellStuck, Done, timeout=60)
REMOVE_TAINT = Signature("remove_taint", OrphanedTaint, Done, timeout=10)
REMOVE_CLAIM = Signature("remove_claim", OrphanedClaim, Done, timeout=10)
SOUND_ALARM = Signature("sound_alarm", SweepAlarm, Done, timeout=10)
