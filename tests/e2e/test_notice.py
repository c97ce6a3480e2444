"""Two minutes of notice, and one replica: all that it has trained is saved, though there is no survivor."""

from __future__ import annotations

import pytest

from sandbox.demo.sight import progress_of
from tests.e2e.rig import Rig, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

FEWEST = 40  # steps that would be lost without the notice: two seconds at this sandbox's speed


async def test_no_step_made_before_a_notice_of_two_minutes_is_lost(rig: Rig, namespace: str) -> None:
    bought = machine()
    bought["spec"]["gcp"]["preemptionNoticeDuration"] = "120s"
    job = await rig.start(namespace, rig.job(replicas=1, interval="5s"), bought)
    await job.checkpointed()
    config = '{"spec":{"checkpointConfig":{"checkpointInterval":"1h"}}}'
    await rig.kubectl("patch", "sij", job.name, "-n", namespace, "--type=merge", "-p", config)
    await job.until(lambda: job.status["observedGeneration"] == 2 and not job.is_dumped, 60, "no checkpoint to follow")
    image = progress_of(str(job.status["lastCheckpointImage"]))
    await rig.until(lambda: job.step(0) > image + FEWEST, 60, "steps to lose")

    before, at_notice = job.training(0), job.step(0)
    (vm,) = await job.preempt(0, notice=None)
    await job.trains(0, but=(before,))
    after, noticed_at = job.training(0), rig.observer.happened("notice", vm)
    assert progress_of(str(job.status["lastCheckpointImage"])) > image
    assert (after.first or 0) >= at_notice > image + FEWEST
    assert noticed_at is not None
    assert after.began - noticed_at < 120, "the image is used at once, not when the machine is gone"
    assert job.entry(0)["preemptions"] == 1
