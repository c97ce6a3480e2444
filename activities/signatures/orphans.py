"""What no open workflow looks after."""

from datetime import datetime

from activities.signatures.base import Done, JobRef, Signature
from activities.signatures.checkpoints import CheckpointRef, DeleteImages
from activities.signatures.machines import NodeRef
from api.messages import VmStart
from api.model import Model


class SweepRequest(Model):
    """Look for what no open workflow of this cluster looks after."""

    cluster_id: str
    namespace: str = ""  # where Outlast is installed: an alarm's Event goes there
    grace: float = 600  # seconds; what is younger may be on its way into its owner's state
    dry_run: bool = False  # report, and change nothing
    anyway: bool = False  # a person has looked at the alarm: sweep though there are many
    images_after: float | None = None  # seconds; None: images of jobs that are gone are kept


class Orphan(Model):
    """A VM whose workflow is not open; ``names`` of its instances and Nodes."""

    start: VmStart
    names: list[str]


class Orphans(Model):
    """``seen`` counts all machines of the cluster, so that many orphans at once can be told from a few."""

    orphans: list[Orphan] = []
    seen: int = 0
    jobs: list[str] = []  # ids of those that have machines, owned or not
    unreadable: list[str] = []  # projects that could not be listed, with the reason


class OrphanedTaint(Model):
    """A preemption's mark on a Node that outlived it."""

    node: NodeRef
    taint: str
    value: str


class OrphanedObjects(Model):
    """CheckpointBackups of jobs that are gone, and marks that nobody takes off; how many there are in all."""

    checkpoints: list[CheckpointRef] = []
    checkpoints_seen: int = 0
    taints: list[OrphanedTaint] = []
    taints_seen: int = 0


class OrphanedClaim(Model):
    """A Lease on a CDI device, as it was seen: one that was taken over since has another version."""

    name: str
    version: str


class OrphanedClaims(Model):
    """Leases by which nobody has a device any more; how many there are in all."""

    claims: list[OrphanedClaim] = []
    seen: int = 0


class OrphanedHolds(Model):
    """Jobs that are gone, and whose finalizers still hold Secrets or SpotInstanceVMs; how many jobs hold any."""

    jobs: list[JobRef] = []
    seen: int = 0


class OrphanedImages(Model):
    """A deletion for each job that is gone and each repository in which it has left images."""

    deletions: list[DeleteImages] = []
    seen: int = 0
    unreadable: list[str] = []  # repositories that could not be listed, with the reason


class SweepAlarm(Model):
    """A Warning on the worker's Deployment."""

    namespace: str
    message: str
    at: datetime


FIND_ORPHANS = Signature("find_orphans", SweepRequest, Orphans, timeout=60)
FIND_ORPHANED_OBJECTS = Signature("find_orphaned_objects", SweepRequest, OrphanedObjects, timeout=60)
FIND_ORPHANED_CLAIMS = Signature("find_orphaned_claims", SweepRequest, OrphanedClaims, timeout=60)
FIND_ORPHANED_HOLDS = Signature("find_orphaned_holds", SweepRequest, OrphanedHolds, timeout=60)
FIND_ORPHANED_IMAGES = Signature("find_orphaned_images", SweepRequest, OrphanedImages, timeout=60)
REMOVE_TAINT = Signature("remove_taint", OrphanedTaint, Done, timeout=10)
REMOVE_CLAIM = Signature("remove_claim", OrphanedClaim, Done, timeout=10)
SOUND_ALARM = Signature("sound_alarm", SweepAlarm, Done, timeout=10)
