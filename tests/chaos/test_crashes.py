"""A small fixed sample of the crash matrix; ``make chaos`` plays all of it."""

from activities import signatures as act
from tests.chaos.crashes import Crash, matrix, sample, strike
from tests.chaos.invariants import steps_lost_are_bounded

SAMPLE = 12
# What neither a training's life nor its end ever asks for: each has tests of its own.
ELSEWHERE = {"patch_spec", "take_stock", "adopt_orphan", "find_orphans", "find_image", "find_stored", "save_outputs"}


async def test_the_matrix_is_the_storys_own() -> None:
    crashes = await matrix()
    assert {name for (name, _), _ in crashes} == {signature.name for signature in act.ALL} - ELSEWHERE
    assert {mode for _, mode in crashes} == {"before", "after", "twice"}


async def test_a_sample_of_all_crashes_ends_well() -> None:
    crashes = sample(await matrix(), SAMPLE)
    assert {mode for _, mode in crashes} == {"before", "after", "twice"}
    for crash in crashes:
        outcome = await strike(crash)
        assert (crash, outcome.result, outcome.violations) == (crash, "Completed", [])


async def test_a_crash_is_felt() -> None:
    """The call is made once more, and the story is another one by that."""
    point = ("create_replica", 1)
    for mode, calls in (("before", 2), ("after", 2), ("twice", 1)):
        crash: Crash = (point, mode)  # type: ignore[assignment]
        outcome = await strike(crash)
        first = [call for call in outcome.stage.world.of("create_replica") if call.request.incarnation == 0]
        assert len([call for call in first if call.request.replica == first[0].request.replica]) == calls
        assert steps_lost_are_bounded(outcome.stage.ledger) == []
