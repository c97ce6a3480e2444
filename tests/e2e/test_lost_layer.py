"""The registry has lost a layer of the newest image. The job continues from the image before, and ends well."""

from __future__ import annotations

import pytest

from sandbox.checkpoint_operator.traps import FAIL, POISON
from sandbox.demo.sight import progress_of
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_an_image_whose_layer_the_registry_lost_is_passed_over(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job("poisoned", replicas=1))
    before = job.training(0)
    await job.signal("checkpoint_now")
    good = await job.checkpointed()
    await rig.control.trap(POISON, namespace=namespace)
    await job.signal("checkpoint_now")
    poisoned = await job.checkpointed(but=good)
    await rig.control.trap(FAIL, count=100, namespace=namespace)  # otherwise there is a third one in time
    await job.preempt(0)
    await job.trains(0, but=(before,))
    assert progress_of(good) <= (job.training(0).first or 0) < progress_of(poisoned)
    assert "MissingImage" in job.told("RestoreFailed")[0]
    await job.completed()
