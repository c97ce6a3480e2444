"""The checkpoint operator misbehaves towards a job over the whole sandbox, and the job still ends well."""

from __future__ import annotations

import aiohttp
import pytest

from sandbox.demo.sight import progress_of
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_failed_lying_and_unpushed_checkpoints_are_told_from_good_ones(rig: Rig, namespace: str) -> None:
    """Then the good ones are restored from, and no more of them is kept than the spec says."""
    for trap in ("fail", "no-image", "unpushed"):
        await rig.control.trap(trap, namespace=namespace)
    manifest = rig.job("lied-to", replicas=1, interval="5s", SANDBOX_STEPS=2400)
    manifest["spec"]["checkpointConfig"]["retention"] = {"keepLast": 2}
    job = await rig.start(namespace, manifest)
    tag = await job.checkpointed()
    failed = [each for each in _messages(rig, namespace) if "checkpoint" in each[1] and each[0] == "CheckpointFailed"]
    assert len(failed) == 3
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


async def test_survivors_agent_that_takes_no_notice_is_given_up_and_asked_anew(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job("ignored", interval="1h", SANDBOX_STEPS=10**5))
    before = job.training(0)
    await rig.control.trap("silent", namespace=namespace)
    await job.preempt(0)
    await job.trains(0, but=(before,), seconds=200)
    assert job.training(0).first, "from the survivor's second checkpoint, not from step 0"
    assert any("sticks in phase (none)" in message for _, message in _messages(rig, namespace))


async def test_an_image_whose_layer_the_registry_lost_is_passed_over(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job("poisoned", replicas=1, SANDBOX_STEPS=3000))
    before = job.training(0)
    await job.signal("checkpoint_now")
    good = await job.checkpointed()
    await rig.control.trap("poison", namespace=namespace)
    await job.signal("checkpoint_now")
    poisoned = await job.checkpointed(but=good)
    await rig.control.trap("fail", count=100, namespace=namespace)  # else there is a third one in time
    await job.preempt(0)
    await job.trains(0, but=(before,))
    assert progress_of(good) <= (job.training(0).first or 0) < progress_of(poisoned)
    failed = [message for reason, message in _messages(rig, namespace) if reason == "RestoreFailed"]
    assert "MissingImage" in failed[0]
    await job.completed()


def _messages(rig: Rig, namespace: str) -> list[tuple[str, str]]:
    events = rig.observer.all("events", namespace)
    return [(each["reason"], each.get("message", "")) for each in events]


def _kept(rig: Rig, job_id: str) -> list[str]:
    return [each["metadata"]["name"] for each in rig.observer.all("checkpointbackups", job=job_id)]
