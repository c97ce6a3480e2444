"""A small fixed sample of random schedules, and the tools that make, read and shorten them."""

import pytest

from activities import signatures as act
from tests.chaos.faults import KINDS
from tests.chaos.schedules import draw, shrunk
from tests.chaos.script import Script, parse
from tests.chaos.stage import OUTAGES
from tests.chaos.story import play

SAMPLE = range(9001, 9009)
GANGS = [13, 27, 71, 129]


@pytest.mark.parametrize("seed", [*SAMPLE, *GANGS])
async def test_a_random_schedule_ends_as_documented(seed: int) -> None:
    outcome = await play(draw(seed))
    assert outcome.violations == []


@pytest.mark.parametrize("seed", range(20))
def test_a_script_reads_back(seed: int) -> None:
    script = draw(seed)
    assert parse(str(script)) == script


def test_a_seed_draws_the_same_schedule_and_another_one_draws_another() -> None:
    assert draw(5) == draw(5)
    assert draw(5) != draw(6)


def test_every_kind_of_fault_is_drawn_sooner_or_later() -> None:
    drawn = {fault.kind for seed in range(400) for fault in draw(seed).faults}
    assert drawn == set(KINDS)


def test_some_stories_are_of_gangs() -> None:
    assert all("gang" in draw(seed).job for seed in GANGS)
    traits = [draw(seed).job for seed in range(200) if "gang" in draw(seed).job]
    assert {(job["gang"], job["peers"], job["agree"]) for job in traits} >= {(3, "hang", 1), (3, "fail", 0)}


def test_every_activity_is_in_some_outage() -> None:
    assert {name for names in OUTAGES.values() for name in names} == {signature.name for signature in act.ALL}


async def test_a_seed_takes_the_same_course_each_time() -> None:
    one, other = await play(draw(4)), await play(draw(4))
    assert one.stage.calls.made == other.stage.calls.made
    assert one.stage.world.clock.now == other.stage.world.clock.now


async def test_a_failing_script_is_shortened_to_what_makes_it_fail() -> None:
    script = next(script for script in map(draw, range(100)) if len(script.faults) == 12)
    guilty = [script.faults[3], script.faults[9]]
    tried = []

    async def fails(fewer: Script) -> bool:
        tried.append(fewer)
        return all(fault in fewer.faults for fault in guilty)

    assert (await shrunk(script, fails)).faults == guilty
    assert len(tried) < 60


async def test_a_product_that_errs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a replica started from its oldest image, the story would end with a violation."""
    oldest = lambda points, machine=None: min(points, key=lambda point: point.progress, default=None)  # noqa: E731
    monkeypatch.setattr("workflows.job.checkpoints.restore_points.furthest", oldest)
    script = parse("""
      job replicas=1 steps=1200 interval=120
      800 notice replica=0 seconds=11
    """)
    found = [violation.partition(":")[0] for violation in (await play(script)).violations]
    assert found == ["steps_lost_are_bounded", "restores_are_the_furthest"]
