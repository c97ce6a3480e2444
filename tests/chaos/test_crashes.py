"""A small fixed sample of the crash matrix; ``make chaos`` plays all of it."""

import pytest

from activities import signatures as act
from tests.chaos.calls import MODES, Mode
from tests.chaos.crashes import Crash, matrix, sample, strike
from tests.workflows.world import ELSEWHERE

SAMPLE = 15

ONLY_OF_THE_GANG = {"find_stored", "save_outputs", "write_report"}
"""Activities of a training with a bucket, which the gang has."""


async def test_a_sample_of_all_crashes_ends_well() -> None:
    crashes = await matrix()
    not_here = ELSEWHERE - ONLY_OF_THE_GANG
    assert {crash.point[0] for crash in crashes} == {signature.name for signature in act.ALL} - not_here
    chosen = sample(crashes, SAMPLE)
    assert {crash.mode for crash in chosen} == set(MODES)
    for crash in chosen:
        outcome = await strike(crash)
        expected = "deleted" if crash.story == "deleted" else "completed"
        assert (crash, outcome.result.lower(), outcome.violations) == (crash, expected, [])


@pytest.mark.parametrize(("mode", "calls"), [("before", 2), ("after", 2), ("twice", 1)])
async def test_a_crash_is_felt(mode: Mode, calls: int) -> None:
    """A call that failed is made again, whether or not it took effect."""
    outcome = await strike(Crash("deleted", ("create_replica", 1), mode))
    made = [call.request.replica for call in outcome.stage.world.of("create_replica")]
    assert made.count(made[0]) == calls
