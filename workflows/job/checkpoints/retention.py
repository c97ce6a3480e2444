"""Retention: old restore points are dropped, and their CheckpointBackups and images deleted."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.errors import CORRECTABLE
    from api.names import container_tag, parse_image_tag, tag_in
    from api.views import RestorePoint
    from workflows.job.checkpoints.policy.restore import images_to_delete, keep, restoring

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.state.checkpoint import Checkpoint, Discard

DISCARDS_KEPT = 50
"""How many discards wait for an unreachable registry. Older ones are forgotten, because the state is bounded."""


class Retention:
    """Drops old restore points of one job and deletes what they leave."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self._busy = False
        self._again = False

    @property
    def is_pinning(self) -> bool:
        """True while the digests of a restore point are asked for."""
        return self._busy and any(not point.pinned for point in self.state.points)

    def add(self, point: RestorePoint) -> None:
        """Add a restore point, and discard those that it replaces."""
        self.state.points.append(point)
        self._apply()

    def _apply(self) -> None:
        state, last = self.state, self.job.spec.checkpoint_config.retention.keep_last
        kept = keep(state.points, last, restoring(state.replicas.values()))
        dropped = [point for point in state.points if point not in kept]
        state.points = kept
        self._discard(images_to_delete(dropped, kept), workflow.now())

    def give_up(self, record: Checkpoint) -> None:
        """Discard the images of a checkpoint that failed: they may still arrive, since nothing cancels the operator."""
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
        """Delete what can be deleted now. The rest is retried with the next checkpoint."""
        self._again = True
        if self._busy:
            return
        self._busy = True
        try:
            await (self._tidy() if patched("one-tidy") else self._delete())
        except ActivityError as error:
            workflow.logger.warning("retention: %s", explain(error)[1])
        finally:
            self._busy = False

    # --- pin and delete at once

    async def _tidy(self) -> None:
        """Pin what has no digests yet and delete what was dropped, by one activity.

        While a replica waits for an image, hardly more than its digests is asked for. What comes up meanwhile follows.
        """
        while self._again:
            self._again = False
            await self._tidy_once()

    async def _tidy_once(self) -> None:
        self._apply()
        recovers = any(replica.phase == "Restoring" for replica in self.state.replicas.values())
        unpinned = [point for point in reversed(self.state.points) if not point.pinned]
        backups = self._superfluous(failed=recovers)
        discards = [] if recovers else self._due_discards()
        if not unpinned and not backups and not discards:
            return
        spec = self.job.spec
        request = act.TidyCheckpoints(
            job=self.job.ref,
            config=spec.checkpoint_config,
            pin=unpinned,
            backups=backups,
            images=[discard.images for discard in discards],
            cloud_credentials=spec.gcp_credentials_secret_ref,
        )
        pins = ", ".join(str(point.checkpoint) for point in unpinned)
        found = await call(act.TIDY_CHECKPOINTS, request, summary=f"digests of checkpoint {pins}; delete what is old")
        if found.problems:
            workflow.logger.warning("tidying checkpoints: %s", "; ".join(found.problems))
        self._take_pinned(unpinned, found.pinned)
        for number in found.gone:
            if number not in self._needed():
                self.state.checkpoints.pop(number, None)
        for discard, answer in zip(discards, found.deleted, strict=False):
            self._report(answer)
            if not answer.by_credentials and discard in self.state.discarded:
                self.state.discarded.remove(discard)

    def _take_pinned(self, points: list[RestorePoint], pinned: list[RestorePoint]) -> None:
        for old, new in zip(points, pinned, strict=False):
            known = [one for one in self.state.points if one.images == old.images]
            for one in known:  # it may have been tried or proven meanwhile
                fresh = one.model_copy(update={"images": new.images})
                self.state.points = [fresh if each is one else each for each in self.state.points]
            for replica in self.state.replicas.values():
                if replica.last_checkpoint_image == old.label:
                    replica.last_checkpoint_image = new.label
        if points:
            self.job.touch()

    def awaited(self) -> set[int | None]:
        """Number the checkpoints that a recovery, a spot return or the suspension waits for."""
        replicas = self.state.replicas.values()
        recoveries = [replica.recovery for replica in replicas if replica.recovery]
        awaited = {number for recovery in recoveries for number in (recovery.own, recovery.checkpoint)}
        return awaited | {replica.spot_return.checkpoint for replica in replicas} | {self.state.suspend_checkpoint}

    def _needed(self) -> set[int | None]:
        return {point.checkpoint for point in self.state.points} | self.awaited()

    def _superfluous(self, *, failed: bool) -> list[int]:
        """Number the checkpoints whose object nobody needs: all, or only ``failed`` ones, which keep others away.

        The record of a failed one may still be needed.
        """
        needed = self._needed()
        ended = [record for record in self.state.checkpoints.values() if record.outcome is not None]
        return [one.number for one in ended if one.outcome == "Failed" or (not failed and one.number not in needed)]

    def _due_discards(self) -> list[Discard]:
        """List the images that may be deleted now. A late one may be a restore point by now, and is no longer due."""
        due = [one for one in self.state.discarded if one.not_before <= workflow.now()]
        used = [one for one in due if self._is_used(one)]
        self.state.discarded = [one for one in self.state.discarded if one not in used]
        return [one for one in due if one not in used]

    def _is_used(self, discard: Discard) -> bool:
        in_use = {image.partition("@")[0] for point in self.state.points for image in point.images.values()}
        return any(image.partition("@")[0] in in_use for image in discard.images)

    # --- one by one, as earlier releases did

    async def _delete(self) -> None:
        self._apply()
        await self._delete_backups()
        await self._delete_images()

    async def _delete_backups(self) -> None:
        ended = [record for record in self.state.checkpoints.values() if record.outcome is not None]
        needed = self._needed()
        for record in ended:
            if record.number in needed and record.outcome == "Usable":
                continue
            # The record of a failed checkpoint may still be needed, but its object keeps others from the node.
            ref = act.CheckpointRef(job=self.job.ref, number=record.number)
            left = await call(act.DELETE_CHECKPOINT, ref, summary=f"delete CheckpointBackup {record.number}")
            if not left.exists and record.number not in needed:  # if a finalizer keeps it, it is retried with the next
                self.state.checkpoints.pop(record.number, None)

    async def _delete_images(self) -> None:
        for discard in [one for one in self.state.discarded if one.not_before <= workflow.now()]:
            # A late image may have been found in the registry meanwhile, and be a restore point now.
            if not self._is_used(discard) and not await self._delete_from_registry(discard):
                return  # retried with the next checkpoint: the others would be refused as well
            if discard in self.state.discarded:
                self.state.discarded.remove(discard)

    async def _delete_from_registry(self, discard: Discard) -> bool:
        """Ask the registry; False if it refuses these credentials, which a person may correct.

        A registry that deletes nothing for anybody will not do so later either: its images are forgotten.
        """
        spec = self.job.spec
        request = act.DeleteImages(
            job=self.job.ref,
            config=spec.checkpoint_config,
            images=discard.images,
            cloud_credentials=spec.gcp_credentials_secret_ref,
        )
        summary = f"delete {', '.join(map(tag_in, discard.images))} from the registry"
        try:
            answer = await call(act.DELETE_IMAGES, request, summary=summary)
        except ActivityError as error:
            reason, message = explain(error)
            if reason not in CORRECTABLE:
                raise
            answer = act.DeletedImages(refused=message, by_credentials=True)
        self._report(answer)
        return not answer.by_credentials or not patched("corrected-soon")

    def _report(self, answer: act.DeletedImages) -> None:
        """Report once that the registry refuses, and once more after it has deleted something."""
        if answer.refused is not None and not self.state.deletion_refused:
            why = "which refuses these credentials" if answer.by_credentials else "which refuses to delete them"
            message = f"images of old checkpoints stay in the registry, {why}: {answer.refused}"
            self.job.event(events.IMAGES_NOT_DELETED, message, warning=True)
        if answer.refused is not None:
            self.state.deletion_refused = True
        elif self.state.deletion_refused and patched("corrected-soon"):
            self.state.deletion_refused = False
