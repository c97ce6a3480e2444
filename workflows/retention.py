"""What retention drops goes: CheckpointBackups that nobody needs any more, and images of ours in the registry."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors
    from api.names import container_tag, parse_image_tag, tag_in
    from api.views import RestorePoint
    from workflows.policy.restore import images_to_delete, keep, restoring

from workflows.calls import call, explain
from workflows.job import Job
from workflows.state import Checkpoint, Discard

DISCARDS_KEPT = 50
"""Of a registry that is long away the oldest images are forgotten: the state is bounded."""


class Retention:
    """The clean-up of one job's checkpoints."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self._busy = False

    def add(self, point: RestorePoint) -> None:
        """Take up a new restore point; what falls out by it is discarded."""
        self.state.points.append(point)
        self._apply()

    def _apply(self) -> None:
        state, last = self.state, self.job.spec.checkpoint_config.retention.keep_last
        kept = keep(state.points, last, restoring(state.replicas.values()))
        dropped = [point for point in state.points if point not in kept]
        state.points = kept
        self._discard(images_to_delete(dropped, kept), workflow.now())

    def give_up(self, record: Checkpoint) -> None:
        """Of a checkpoint that failed an image may still come: nothing cancels the operator."""
        view, repository = record.view, self.job.spec.checkpoint_config.checkpoint_image_repo
        if view is None or view.tag is None or repository is None:
            return
        names = self.job.containers
        late = record.requested_at + timedelta(seconds=2 * self.state.timings.checkpoint_total)
        self._discard([f"{repository}:{container_tag(view.tag, name, names)}" for name in names], late)

    def _discard(self, images: list[str], not_before: datetime) -> None:
        ours = [image for image in images if self._is_ours(image)]
        if ours:
            self.state.discarded.append(Discard(images=ours, not_before=not_before))
            del self.state.discarded[:-DISCARDS_KEPT]

    def _is_ours(self, image: str) -> bool:
        found = parse_image_tag(tag_in(image))
        return found is not None and found[0] == self.job.start.job_id

    async def run(self) -> None:
        """Delete what can be deleted now; what cannot is tried again with the next checkpoint."""
        if self._busy:
            return
        self._busy = True
        try:
            self._apply()
            await self._delete_backups()
            await self._delete_images()
        except ActivityError as error:
            workflow.logger.warning("retention: %s", explain(error)[1])
        finally:
            self._busy = False

    async def _delete_backups(self) -> None:
        ended = [record for record in self.state.checkpoints.values() if record.outcome is not None]
        needed = {point.checkpoint for point in self.state.points} | self._awaited()
        for record in ended:
            if record.number in needed and record.outcome == "Usable":
                continue
            # Of one that failed the record may still be looked at, but the object keeps others from its node.
            ref = act.CheckpointRef(job=self.job.ref, number=record.number)
            left = await call(act.DELETE_CHECKPOINT, ref, summary=f"delete CheckpointBackup {record.number}")
            if not left.exists and record.number not in needed:  # else a finalizer holds it: asked again with the next
                self.state.checkpoints.pop(record.number, None)

    def _awaited(self) -> set[int | None]:
        replicas = self.state.replicas.values()
        recoveries = [replica.recovery for replica in replicas if replica.recovery]
        awaited = {number for recovery in recoveries for number in (recovery.own, recovery.checkpoint)}
        return awaited | {replica.return_checkpoint for replica in replicas} | {self.state.suspend_checkpoint}

    async def _delete_images(self) -> None:
        for discard in [one for one in self.state.discarded if one.not_before <= workflow.now()]:
            # One that came late may have been found in the registry, and be what a replica lives from now.
            held = {image.partition("@")[0] for point in self.state.points for image in point.images.values()}
            if not any(image.partition("@")[0] in held for image in discard.images):
                await self._delete(discard)
            if discard in self.state.discarded:
                self.state.discarded.remove(discard)

    async def _delete(self, discard: Discard) -> None:
        spec = self.job.spec
        request = act.DeleteImages(
            job=self.job.ref,
            config=spec.checkpoint_config,
            images=discard.images,
            cloud_credentials=spec.gcp_credentials_secret_ref,
        )
        summary = f"delete {', '.join(map(tag_in, discard.images))} from the registry"
        try:
            refused = (await call(act.DELETE_IMAGES, request, summary=summary)).refused
        except ActivityError as error:
            if explain(error)[0] not in (errors.INVALID, errors.MISSING, errors.PERMISSION):
                raise
            refused = explain(error)[1]
        if refused is not None and not self.state.deletion_refused:
            self.state.deletion_refused = True
            self.job.event(
                "ImagesNotDeleted",
                f"images of old checkpoints stay in the registry, which deletes none for us: {refused}",
                warning=True,
            )
