"""CheckpointBackups, the images that come of them, and the checkpoints that a training keeps itself."""

from typing import Literal

from activities.signatures.base import JobRef, Signature
from api.common import SecretReference
from api.model import Model
from api.spot_instance_job import CheckpointConfig, CheckpointStorage
from api.views import CheckpointView, RestorePoint


class CreateCheckpoint(Model):
    """One CheckpointBackup, now. The progress is read from the log just before and goes into the tag."""

    job: JobRef
    number: int
    replica: int
    incarnation: int
    config: CheckpointConfig
    lineage_seconds: float  # its progress where the training reports none
    unix: int  # of the request, for the tag


class CheckpointRef(Model):
    """A CheckpointBackup by its number."""

    job: JobRef
    number: int
    containers: list[str] = []


Which = Literal["Ours", "LatestTag", "Image"]  # tags with our id by progress, the tag created last, restoreFrom


class FindImage(Model):
    """Look into the registry for something to start from."""

    job: JobRef
    config: CheckpointConfig
    containers: list[str]
    which: Which
    cloud_credentials: SecretReference | None = None  # gcpCredentialsSecretRef, which opens Google's registries too


class FoundImage(Model):
    """What was found, None where the repository holds nothing of the kind."""

    point: RestorePoint | None


class PinImages(Model):
    """Resolve a restore point's tags to digests: a tag can move."""

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
    """``refused`` is what the registry said where it deletes nothing for us."""

    refused: str | None = None


class FindStored(Model):
    """Look into the bucket for the furthest complete checkpoint of this job."""

    job: JobRef
    storage: CheckpointStorage
    cloud: SecretReference | None = None  # gcpCredentialsSecretRef
    restore_from: str | None = None  # a prefix, looked into where the job has none of its own
    avoid: list[str] = []  # paths of such as were complete and did not start


class FoundStored(Model):
    """A restore point of kind Storage, None where there is none; and why others were passed over."""

    point: RestorePoint | None
    passed_over: list[str] = []


CREATE_CHECKPOINT = Signature("create_checkpoint", CreateCheckpoint, CheckpointView, timeout=3)
OBSERVE_CHECKPOINT = Signature("observe_checkpoint", CheckpointRef, CheckpointView, timeout=10)
DELETE_CHECKPOINT = Signature("delete_checkpoint", CheckpointRef, CheckpointView, timeout=10)

FIND_IMAGE = Signature("find_image", FindImage, FoundImage, timeout=60)
PIN_IMAGES = Signature("pin_images", PinImages, RestorePoint, timeout=20)
DELETE_IMAGES = Signature("delete_images", DeleteImages, DeletedImages, timeout=60)

FIND_STORED = Signature("find_stored", FindStored, FoundStored, timeout=60)
