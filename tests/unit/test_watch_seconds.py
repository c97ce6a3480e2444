"""How long an activity watches: for what is left of the time that its caller has, whichever attempt it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.heartbeat import watch_seconds
from activities.signatures.base import PATIENT, WAITED_FOR, Done, Signature

ASKED = datetime(2026, 1, 1, tzinfo=UTC)
CALL = Signature("look", Done, Done)


async def seconds(call: Signature[Done, Done], *, began: float = 0, usual: float = 7) -> float:
    """Return how long an attempt watches that begins so long after the activity was asked for."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        scheduled_time=ASKED,
        started_time=ASKED + timedelta(seconds=began),
        start_to_close_timeout=timedelta(seconds=call.timeout),
        heartbeat_timeout=timedelta(seconds=call.heartbeat) if call.heartbeat else None,
    )
    found: float = environment.run(watch_seconds, usual)
    return found


async def test_a_caller_that_is_not_patient_gets_what_is_usual() -> None:
    assert await seconds(CALL) == 7
    assert await seconds(replace(CALL, heartbeat=20)) == 7


@pytest.mark.parametrize(("began", "left"), [(0, 120), (50, 70), (119, 1), (200, 0)])
async def test_a_late_attempt_watches_for_what_is_left(began: float, left: float) -> None:
    assert await seconds(CALL.watching(120), began=began) == left


@pytest.mark.parametrize(("usual", "watching"), [(None, PATIENT), (20, WAITED_FOR)])
async def test_what_a_training_waits_for_has_the_more_heartbeats(usual: float | None, watching: float) -> None:
    call = replace(CALL, heartbeat=usual).watching(120)
    assert call.heartbeat == watching
    assert await seconds(call) == 120


async def test_an_attempt_has_time_for_its_last_look() -> None:
    call = CALL.watching(120)
    assert call.timeout > await seconds(call) + 30
