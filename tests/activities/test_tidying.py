"""After a checkpoint: digests first, then removals, and whatever fails keeps nothing else from being done."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import signatures as act
from activities.checkpoints import tidying
from activities.checkpoints.tidying import TidyActivities
from api import errors
from api.spot_instance_job import CheckpointConfig
from api.views import CheckpointView, RestorePoint

JOB = act.JobRef(namespace="team", name="train", uid="u-1", job_id="0badcafe")
AT = datetime(2026, 1, 1, tzinfo=UTC)
POINTS = [
    RestorePoint(images={"train": f"registry/train:{number}"}, checkpoint=number, progress=number, created_at=AT)
    for number in (2, 1)
]
TIDY = act.TidyCheckpoints(
    job=JOB, config=CheckpointConfig(), pin=POINTS, backups=[7, 8], images=[["old:1"], ["old:2"], ["old:3"]]
)


class Images:
    """A registry that answers, refuses, fails or is silent."""

    def __init__(self) -> None:
        self.pinning: Any = None
        self.deleting: dict[str, Exception] = {}
        self.asked: list[str] = []

    async def pin_images(self, request: act.PinImages) -> RestorePoint:
        self.asked.append(f"pin {request.point.checkpoint}")
        if self.pinning is not None:
            await self.pinning()
        images = {name: f"{image}@sha256:1" for name, image in request.point.images.items()}
        return request.point.model_copy(update={"images": images})

    async def delete_images(self, request: act.DeleteImages) -> act.DeletedImages:
        self.asked.append(f"delete {request.images[0]}")
        if request.images[0] in self.deleting:
            raise self.deleting[request.images[0]]
        return act.DeletedImages(deleted=request.images)


class Backups:
    """CheckpointBackups, of which some stay."""

    def __init__(self) -> None:
        self.stay: set[int] = set()
        self.fail: set[int] = set()

    async def delete_checkpoint(self, ref: act.CheckpointRef) -> CheckpointView:
        if ref.number in self.fail:
            raise RuntimeError("the API server does not answer")
        return CheckpointView(name=f"train-c{ref.number}", exists=ref.number in self.stay)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not pause between two tries."""
    monkeypatch.setattr(tidying, "PIN_PAUSE", 0.0)


async def tidied(images: Images, backups: Backups) -> act.TidiedCheckpoints:
    activities: Any = TidyActivities(backups, images)  # type: ignore[arg-type]
    found: act.TidiedCheckpoints = await ActivityEnvironment().run(activities.tidy_checkpoints, TIDY)
    return found


async def test_all_is_done_at_once() -> None:
    images = Images()
    found = await tidied(images, Backups())
    assert [point.images["train"] for point in found.pinned] == [
        "registry/train:2@sha256:1",
        "registry/train:1@sha256:1",
    ]
    assert found.gone == [7, 8]
    assert len(found.deleted) == 3
    assert images.asked == ["pin 2", "pin 1", "delete old:1", "delete old:2", "delete old:3"]
    assert found.problems == []


async def test_a_registry_that_fails_keeps_no_checkpoint_backup() -> None:
    async def fail() -> None:
        raise RuntimeError("503")

    images = Images()
    images.pinning, images.deleting = fail, {"old:1": RuntimeError("503")}
    found = await tidied(images, Backups())
    assert found.pinned == POINTS
    assert found.gone == [7, 8]
    assert found.deleted == []
    assert images.asked.count("pin 2") == tidying.PIN_TRIES
    assert "images: RuntimeError('503')" in found.problems


async def test_a_silent_registry_keeps_no_checkpoint_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "PIN_SECONDS", 0.05)
    images = Images()
    images.pinning = asyncio.Event().wait
    found = await tidied(images, Backups())
    assert found.pinned == POINTS
    assert found.gone == [7, 8]
    assert any("did not give all digests" in problem for problem in found.problems)


async def test_what_stays_or_fails_is_left_out() -> None:
    backups = Backups()
    backups.stay, backups.fail = {7}, {8}
    found = await tidied(Images(), backups)
    assert found.gone == []
    assert ["CheckpointBackup 8" in problem for problem in found.problems] == [True]
    assert len(found.deleted) == 3


async def test_refused_credentials_end_the_deletions_and_are_said() -> None:
    images = Images()
    images.deleting = {"old:2": ApplicationError("there is no Secret team/key", type=errors.MISSING)}
    found = await tidied(images, Backups())
    assert [answer.by_credentials for answer in found.deleted] == [False, True]
    assert "delete old:3" not in images.asked
