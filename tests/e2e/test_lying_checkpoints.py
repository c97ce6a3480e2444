"""Checkpoints fail, have no image, or one that was never pushed: the job is not deceived, and ends well."""

from __future__ import annotations

import aiohttp
import pytest

from sandbox.checkpoint_operator.traps import FAIL, NO_IMAGE, UNPUSHED
from sandbox.demo.sight import progress_of
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_failed_lying_and_unpushed_checkpoints_are_told_from_good_ones(rig: Rig, namespace: str) -> None:
    """The good ones are then restored from, and no more of them are kept than the spec says."""
    for trap in (FAIL, NO_IMAGE, UNPUSHED):
        await rig.control.trap(trap, namespace=namespace)
    manifest = rig.job("lied-to", replicas=1, interval="5s")
    manifest["spec"]["checkpointConfig"]["retention"] = {"keepLast": 2}
    job = await rig.start(namespace, manifest)
    tag = await job.checkpointed()
    failed = lambda: [message for message in job.told("CheckpointFailed") if "checkpoint" in message]  # noqa: E731
    await job.until(lambda: len(failed()) == 3, 30, "an Event for each of the three")
    before = job.training(0)
    await job.preempt(0)
    await job.trains(0, but=(before,))
    assert (job.training(0).first or 0) >= progress_of(tag) > 0
    await job.completed()
    await rig.until(lambda: len(_kept(rig, job.id)) <= 3, 60, "old CheckpointBackups to be gone")
    url = f"http://{rig.addresses['REGISTRY']}/v2/{job.name}/tags/list"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        tags = [each for each in (await answer.json(content_type=None))["tags"] if each.startswith(job.id)]
    assert 1 <= len(tags) <= 4, "the last two, a proven one, and one that came after the end"


def _kept(rig: Rig, job_id: str) -> list[str]:
    return [each["metadata"]["name"] for each in rig.observer.all("checkpointbackups", job=job_id)]
