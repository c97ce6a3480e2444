"""The checkpoint operator's agent on the survivor's node does nothing. The lost replica is still restored."""

from __future__ import annotations

import pytest

from sandbox.checkpoint_operator.traps import SILENT
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_survivors_agent_that_takes_no_notice_is_given_up_and_asked_anew(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job("ignored", interval="1h"))
    before = job.training(0)
    await rig.control.trap(SILENT, namespace=namespace)
    await job.preempt(0)
    await job.trains(0, but=(before,), seconds=200)
    assert job.training(0).first, "from the survivor's second checkpoint, not from step 0"
    assert any("is stuck in phase (none)" in message for message in job.told())
