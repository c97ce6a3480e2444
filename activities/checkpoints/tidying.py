"""The activity after a checkpoint's end: its images are pinned, and what retention has dropped is removed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.checkpoints.activities import CheckpointActivities
from activities.registry.activities import ImageActivities
from activities.signatures import (
    TIDY_CHECKPOINTS,
    CheckpointRef,
    DeletedImages,
    DeleteImages,
    PinImages,
    TidiedCheckpoints,
    TidyCheckpoints,
)
from api.errors import CORRECTABLE
from api.views import RestorePoint

PIN_TRIES = 3
"""How often a registry that does not answer is asked for digests."""

PIN_PAUSE = 1.0
"""Seconds between two tries."""

PIN_SECONDS = 25.0
"""The time for all digests. A registry that is silent must not keep the CheckpointBackups from being removed."""

REMOVE_SECONDS = 20.0
"""The time for all removals, because a recovery may wait for the digests. The next call goes on."""

Out = TypeVar("Out")


class TidyActivities:
    """Tidies by what the activities on CheckpointBackups and on images do."""

    def __init__(self, checkpoints: CheckpointActivities, images: ImageActivities) -> None:
        self._checkpoints = checkpoints
        self._images = images

    @activity.defn(name=TIDY_CHECKPOINTS.name)
    async def tidy_checkpoints(self, tidy: TidyCheckpoints) -> TidiedCheckpoints:
        """Pin, then remove. Whatever fails is reported and keeps nothing else from being done."""
        problems: list[str] = []
        pinned = await self._pin_all(tidy, problems)
        gone: list[int] = []
        deleted: list[DeletedImages] = []
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                await self._remove_backups(tidy, gone, problems)
                await self._remove_images(tidy, deleted, problems)
        except TimeoutError:
            problems.append(f"not everything was removed in {REMOVE_SECONDS:.0f} s")
        return TidiedCheckpoints(pinned=pinned, gone=gone, deleted=deleted, problems=problems)

    async def _pin_all(self, tidy: TidyCheckpoints, problems: list[str]) -> list[RestorePoint]:
        pinned: list[RestorePoint] = []
        try:
            async with asyncio.timeout(PIN_SECONDS):
                for point in tidy.pin:
                    pinned.append(await self._pin(point, tidy, problems))
        except TimeoutError:
            problems.append(f"the registry did not give all digests in {PIN_SECONDS:.0f} s")
        return pinned + tidy.pin[len(pinned) :]

    async def _pin(self, point: RestorePoint, tidy: TidyCheckpoints, problems: list[str]) -> RestorePoint:
        request = PinImages(job=tidy.job, config=tidy.config, point=point, cloud_credentials=tidy.cloud_credentials)
        for attempt in range(PIN_TRIES):
            pinned = await _tried(lambda: self._images.pin_images(request), f"digest of {point.label}", problems)
            if pinned is not None:
                return pinned
            await asyncio.sleep(PIN_PAUSE if attempt < PIN_TRIES - 1 else 0)
        return point

    async def _remove_backups(self, tidy: TidyCheckpoints, gone: list[int], problems: list[str]) -> None:
        for number in tidy.backups:
            ref = CheckpointRef(job=tidy.job, number=number)
            left = await _tried(
                lambda one=ref: self._checkpoints.delete_checkpoint(one),  # type: ignore[misc]
                f"CheckpointBackup {number}",
                problems,
            )
            if left is not None and not left.exists:
                gone.append(number)

    async def _remove_images(self, tidy: TidyCheckpoints, deleted: list[DeletedImages], problems: list[str]) -> None:
        for images in tidy.images:
            request = DeleteImages(
                job=tidy.job, config=tidy.config, images=images, cloud_credentials=tidy.cloud_credentials
            )
            try:
                answer = await self._images.delete_images(request)
            except ApplicationError as error:
                if error.type not in CORRECTABLE:
                    problems.append(f"images: {error.message}")
                    return
                answer = DeletedImages(refused=error.message, by_credentials=True)
            except Exception as error:  # the registry does not answer: the others would fare no better
                problems.append(f"images: {error!r}")
                return
            deleted.append(answer)
            if answer.by_credentials:
                return


async def _tried(step: Callable[[], Awaitable[Out]], what: str, problems: list[str]) -> Out | None:
    """Take a step; None if it failed, which is reported."""
    try:
        return await step()
    except Exception as error:
        problems.append(f"{what}: {error!r}")
        return None
