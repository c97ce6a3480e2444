"""Scripts of schedules that once ended badly, pasted here as they were printed."""

import pytest

from tests.chaos.script import parse
from tests.chaos.story import play

SCRIPTS = {
    # The tests' own cloud let a machine boot and join that had been taken back, as long as it was shown as running.
    "machines taken back while they boot, and shown as running": """
      job replicas=3 steps=900 interval=600 notice=120 course=38
      516 notice_to_all seconds=11
      521 all_lost lingering=60
    """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_what_once_ended_badly_ends_well(script: str) -> None:
    assert (await play(parse(script))).violations == []
