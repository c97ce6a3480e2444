"""CheckpointBackups, the images that they make, and the checkpoints that a training publishes itself."""

from typing import Literal

from activities.signatures.base import JobRef, Signature
from api.common import SecretReference
from api.model import Model
from api.spot_instance_job import CheckpointConfig, CheckpointStorage
from api.views import CheckpointView, RestorePoint


class CreateCheckpoint(Model):
    """Make one CheckpointBackup, now. The progress is read from the log just before, and goes into the tag."""

    job: JobRef
    number: int
    replica: int
    incarnation: int
    config: CheckpointConfig
    lineage_seconds: float  # the training time: its progress if the training reports none
    unix: int  # the moment of the request, for the tag


class RequestedCheckpoint(CheckpointView):
    """A CheckpointBackup as it was made, and for how long its workflow should ask for nothing else.

    In a storm of notices other trainings still wait for their checkpoints then. A worker of release 0.2.0 says nothing.
    """

    others_wait: float = 0.0  # seconds

    @property
    def view(self) -> CheckpointView:
        """Give the CheckpointBackup alone."""
        return CheckpointView(**{name: getattr(self, name) for name in CheckpointView.model_fields})


class CheckpointRef(Model):
    """A CheckpointBackup by its number."""

    job: JobRef
    number: int
    containers: list[str] = []


Which = Literal["Ours", "LatestTag", "Image"]  # tags with our id by progress, the tag created last, restoreFrom


class FindImage(Model):
    """Look in the registry for something to start from."""

    job: JobRef
    config: CheckpointConfig
    containers: list[str]
    which: Which
    cloud_credentials: SecretReference | None = None  # gcpCredentialsSecretRef, which opens Google's registries too


class FoundImage(Model):
    """What was found; None if the repository contains nothing of the kind."""

    point: RestorePoint | None


class PinImages(Model):
    """Resolve a restore point's tags to digests, because a tag can move."""

    job: JobRef
    config: CheckpointConfig
    point: RestorePoint
    cloud_credentials: SecretReference | None = None


class DeleteImages(Model):
    """Remove images that retention has dropped."""

    job: JobRef
    config: CheckpointConfig
    images: list[str]
    cloud_credentials: SecretReference | None = None


class DeletedImages(Model):
    """The result of a deletion; ``refused`` is the registry's reason if it does not allow it."""

    refused: str | None = None
    by_credentials: bool = False  # it refuses these credentials, which a person may correct


class TidyCheckpoints(Model):
    """Pin restore points, and remove what retention has dropped: CheckpointBackups by number, and lists of images."""

    job: JobRef
    config: CheckpointConfig
    pin: list[RestorePoint] = []
    backups: list[int] = []
    images: list[list[str]] = []
    cloud_credentials: SecretReference | None = None


class TidiedCheckpoints(Model):
    """What was done. What could not be done now is left out: it is to be asked for again."""

    pinned: list[RestorePoint] = []  # as many as were to be pinned; unchanged if their digests are not known
    gone: list[int] = []
    deleted: list[DeletedImages] = []  # for the first of the lists of images
    problems: list[str] = []


class FindStored(Model):
    """Look in the bucket for the furthest complete checkpoint of this job."""

    job: JobRef
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef
    restore_from: str | None = None  # a prefix to look in if the job has no checkpoint of its own
    avoid: list[str] = []  # paths of complete checkpoints that did not start
    machines: int = 1  # how many are to load it


class FoundStored(Model):
    """A restore point of kind Storage, None if there is none, and why others were skipped."""

    point: RestorePoint | None
    passed_over: list[str] = []


CREATE_CHECKPOINT = Signature("create_checkpoint", CreateCheckpoint, RequestedCheckpoint, timeout=3)
OBSERVE_CHECKPOINT = Signature("observe_checkpoint", CheckpointRef, CheckpointView, timeout=10)
DELETE_CHECKPOINT = Signature("delete_checkpoint", CheckpointRef, CheckpointView, timeout=10)

FIND_IMAGE = Signature("find_image", FindImage, FoundImage, timeout=60)
PIN_IMAGES = Signature("pin_images", PinImages, RestorePoint, timeout=20)
DELETE_IMAGES = Signature("delete_images", DeleteImages, DeletedImages, timeout=60)

TIDY_CHECKPOINTS = Signature("tidy_checkpoints", TidyCheckpoints, TidiedCheckpoints, timeout=60)

FIND_STORED = Signature("find_stored", FindStored, FoundStored, timeout=60)
