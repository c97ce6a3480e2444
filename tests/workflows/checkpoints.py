"""The world's checkpoint operator and its registry. The operator plays its traps on request."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors, names
from api.messages import CheckpointChanged
from api.views import CheckpointView, RestorePoint
from sandbox.checkpoint_operator.phases import (
    BUILDING,
    CHECKPOINTING,
    COMPLETED,
    COMPLETED_WITH_ERROR,
    FAILED,
    PUSHING,
)
from sandbox.checkpoint_operator.traps import FAIL, NO_IMAGE, SILENT, SLOW, STICK, UNPUSHED
from tests.workflows.cluster import Cluster
from tests.workflows.cluster_objects import Pod

REPOSITORY = "registry.example/team/ckpt"
PHASES = [(1.0, CHECKPOINTING), (3.0, BUILDING), (5.0, PUSHING), (8.0, COMPLETED)]

NOT_DELETED = "not-deleted"
"""The operator should delete the pod and may not: ``CompletedWithError``, though the image exists."""
GONE = "gone"
"""Somebody deletes the CheckpointBackup while its image is built, and the operator forgets it."""
TRAPS = (
    *(f"{STICK}:{phase}" for phase in (CHECKPOINTING, BUILDING, PUSHING)),
    *(SILENT, NO_IMAGE, UNPUSHED, NOT_DELETED, FAIL, SLOW, GONE),
)
"""The traps that the world's operator plays, by the sandbox's names. ``stick:PHASE`` stays in that phase."""


@dataclass
class Backup:
    """A CheckpointBackup."""

    number: int
    name: str
    job: act.JobRef
    replica: int
    pod: Pod
    tag: str
    progress: float
    reported: bool
    created_at: datetime
    plan: str
    phase: str | None = None
    message: str | None = None
    image: str | None = None
    held: float = 0
    told_to_end: bool = False  # before it was dumped
    hung: bool = False  # when it was dumped

    def wanted_image(self) -> str:
        """Return the image that it will become."""
        return f"{REPOSITORY}:{self.tag}"


class Checkpoints:
    """All CheckpointBackups, and the images that they became."""

    def __init__(self, cluster: Cluster, tell: Callable[[str, str, object], None]) -> None:
        self.cluster = cluster
        self.tell = tell
        self.backups: dict[int, Backup] = {}
        self.history: list[Backup] = []
        self.plans: list[str] = []  # the traps of the next ones, of ``TRAPS``; without a trap all goes well
        self.busy_until: datetime | None = None  # another job's checkpoint occupies the nodes
        self.dump_seconds = 8.0
        self.every_plan = ""  # the trap of all of them while it is set
        self.slow: dict[int, float] = {}  # dump_seconds of a replica, if they differ
        self.registry: dict[str, RestorePoint] = {}  # by image
        self.registry_down = False
        self.deletes_nothing = False
        self.kills: int | None = None  # the exit code of a training that each dump kills
        self.kills_late = False  # it is killed once its image exists
        self.others_wait = 0.0  # what a storm of notices asks of each
        self.stalled: float | None = None  # what every training reports, once it reports no progress

    # --- activities

    def create_checkpoint(self, request: act.CreateCheckpoint) -> act.RequestedCheckpoint:
        if request.number in self.backups:
            return self._requested(request.number, request.job)
        job = self.cluster.jobs.get((request.replica, request.incarnation))
        pod = job.pod if job else None
        if job is None or pod is None or pod.phase != "Running" or pod.deleting:
            raise ApplicationError("no running pod to checkpoint", type=errors.MISSING, non_retryable=True)
        others = [other for other in self.backups.values() if other.pod.node == pod.node]
        under_way = [other for other in others if not self.view(other.number, request.job).ended]
        if under_way or (self.busy_until is not None and self.cluster.clock.now < self.busy_until):
            raise ApplicationError("another checkpoint is under way", type=errors.BUSY, non_retryable=True)
        reported = request.config.progress is not None
        progress = self.cluster.progress(job) if self.stalled is None else self.stalled
        progress = float(int(progress)) if reported else request.lineage_seconds
        backup = Backup(
            number=request.number,
            name=names.checkpoint_name(request.job.name, request.job.job_id, request.number),
            job=request.job,
            replica=request.replica,
            pod=pod,
            tag=names.image_tag(request.job.job_id, progress, request.unix),
            progress=progress,
            reported=reported,
            created_at=self.cluster.clock.now,
            plan=self.every_plan or (self.plans.pop(0) if self.plans else ""),
        )
        self.backups[request.number] = backup
        self.history.append(backup)
        if backup.plan != SILENT:
            slow = 40.0 if backup.plan == SLOW else 1.0
            stretch = slow * self.slow.get(request.replica, self.dump_seconds) / 8
            for seconds, phase in PHASES:
                self.cluster.clock.after(seconds * stretch, lambda phase=phase: self._go(backup, phase))
        return self._requested(request.number, request.job)

    def _requested(self, number: int, job: act.JobRef) -> act.RequestedCheckpoint:
        return act.RequestedCheckpoint(**self.view(number, job).model_dump(), others_wait=self.others_wait)

    def observe_checkpoint(self, ref: act.CheckpointRef) -> CheckpointView:
        return self.view(ref.number, ref.job)

    def delete_checkpoint(self, ref: act.CheckpointRef) -> CheckpointView:
        ended = self.view(ref.number, ref.job).ended
        if self.backups.pop(ref.number, None) is not None and not ended:
            self._changed(ref.number, ref.job)
        return self.view(ref.number, ref.job)

    def find_image(self, request: act.FindImage) -> act.FoundImage:
        if self.registry_down:
            raise RuntimeError("the registry does not answer")
        images = list(self.registry.items())
        match request.which:
            case "Ours":
                ours = [point for _, point in images if f":{request.job.job_id}-p" in point.label]
                return act.FoundImage(point=max(ours, key=lambda point: point.progress, default=None))
            case "LatestTag":
                points = [point for _, point in images]
                return act.FoundImage(point=max(points, key=lambda point: point.created_at, default=None))
            case "Image":
                return act.FoundImage(point=self.registry.get(request.config.restore_from or ""))

    def pin_images(self, request: act.PinImages) -> RestorePoint:
        if self.registry_down:
            raise RuntimeError("the registry does not answer")
        pinned = {
            name: image if "@" in image else f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
            for name, image in request.point.images.items()
        }
        return request.point.model_copy(update={"images": pinned})

    def tidy_checkpoints(self, tidy: act.TidyCheckpoints) -> act.TidiedCheckpoints:
        job, config = tidy.job, tidy.config
        if self.registry_down:
            pinned, deleted = tidy.pin, []
        else:
            pinned = [self.pin_images(act.PinImages(job=job, config=config, point=point)) for point in tidy.pin]
            requests = [act.DeleteImages(job=job, config=config, images=images) for images in tidy.images]
            deleted = [self._deleted(request) for request in requests]
        left = [self.delete_checkpoint(act.CheckpointRef(job=job, number=number)) for number in tidy.backups]
        gone = [number for number, view in zip(tidy.backups, left, strict=True) if not view.exists]
        return act.TidiedCheckpoints(pinned=pinned, gone=gone, deleted=deleted)

    def _deleted(self, request: act.DeleteImages) -> act.DeletedImages:
        try:
            return self.delete_images(request)
        except ApplicationError as error:
            return act.DeletedImages(refused=error.message, by_credentials=True)

    def delete_images(self, request: act.DeleteImages) -> act.DeletedImages:
        if self.registry_down:
            raise RuntimeError("the registry does not answer")
        if self.deletes_nothing:
            return act.DeletedImages(refused="405 UNSUPPORTED")
        for image in request.images:
            plain = image.partition("@")[0]
            self.registry.pop(plain, None)
            self.cluster.held.pop(plain, None)
        return act.DeletedImages()

    # --- what happens

    def _go(self, backup: Backup, phase: str) -> None:
        node = self.cluster.nodes.get(backup.pod.node or "")
        dead = node is None or not node.alive or (phase == CHECKPOINTING and backup.pod.stopped_at is not None)
        if self.backups.get(backup.number) is not backup or dead or backup.phase == FAILED:
            return
        order = [phase for _, phase in PHASES]
        if backup.plan.startswith(STICK):
            last = backup.plan.partition(":")[2] or BUILDING
            if order.index(phase) > order.index(last):
                return
        if backup.plan == GONE and phase == BUILDING:
            del self.backups[backup.number]
            self._changed(backup.number, backup.job)
            return
        if self.kills is not None and phase == (COMPLETED if self.kills_late else BUILDING):
            killed = next(job for job in self.cluster.history.values() if job.pod is backup.pod)
            code = self.kills
            self.cluster.clock.after(1, lambda: self.cluster.end_pod(killed, code))
            backup.plan = backup.plan if self.kills_late else FAIL
        if backup.plan == FAIL and phase == BUILDING:
            phase, backup.message = FAILED, "CRIU: freezing timed out"
        if phase == CHECKPOINTING:
            job = next(job for job in self.cluster.history.values() if job.pod is backup.pod)
            backup.held, backup.told_to_end = self.cluster.progress(job), backup.pod.deleting
            backup.hung = backup.held >= (float("inf") if backup.pod.stands_at is None else backup.pod.stands_at)
        backup.phase = phase
        if phase == COMPLETED and backup.plan == NOT_DELETED:
            phase, backup.phase, backup.message = COMPLETED_WITH_ERROR, COMPLETED_WITH_ERROR, "the pod was not deleted"
        if phase == COMPLETED and backup.plan not in {NO_IMAGE, UNPUSHED}:
            backup.image = backup.wanted_image()
            self.push(backup.image, backup.progress, backup.held)
            if backup.hung:
                self.cluster.hung.add(backup.image)
            if backup.told_to_end:
                self.cluster.told_to_end.add(backup.image)
        if phase in {FAILED, COMPLETED, COMPLETED_WITH_ERROR}:
            self._changed(backup.number, backup.job)

    def push(self, image: str, progress: float, held: float | None = None) -> RestorePoint:
        """Push an image to the registry."""
        point = RestorePoint(images={"train": image}, progress=progress, created_at=self.cluster.clock.now)
        self.registry[image] = point
        self.cluster.keep_image(point, progress if held is None else held)
        return point

    def view(self, number: int, job: act.JobRef) -> CheckpointView:
        backup = self.backups.get(number)
        if backup is None:
            return CheckpointView(name=names.checkpoint_name(job.name, job.job_id, number), exists=False)
        return CheckpointView(
            name=backup.name,
            uid=f"backup-{number}",
            phase=backup.phase,
            message=backup.message,
            images={"train": backup.image} if backup.image else {},
            tag=backup.tag,
            progress=backup.progress,
            reported=backup.reported,
        )

    def _changed(self, number: int, job: act.JobRef) -> None:
        self.cluster.version += 1
        message = CheckpointChanged(job_id=job.job_id, version=self.cluster.version, view=self.view(number, job))
        self.tell(names.job_workflow_id(job.namespace, job.name), "checkpoint_changed", message)
