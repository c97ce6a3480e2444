"""What the time of a notice can be used for."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.policy import NOW, ago
from workflows.policy.notice import ends_at, fits, last_moment, once_more, wait_until


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, None),
        ({"seconds_left": 600}, later(600)),
        ({"seconds_left": 0}, NOW),
        ({"seconds_left": 30, "began": NOW, "usual": 120}, later(30)),
        ({"began": NOW, "usual": 120}, later(120)),
        ({"began": ago(25), "usual": 120}, later(95)),
        ({"began": ago(300), "usual": 120}, ago(180)),
        ({"began": NOW, "usual": 0}, NOW),
        # A machine whose clock is ahead has no more time for that.
        ({"began": later(40), "usual": 120}, later(120)),
        # Another handler's taint on a machine with a notice of its own says nothing about when that began.
        ({"usual": 120}, None),
        # A spot node that we did not buy.
        ({"began": NOW}, None),
    ],
    ids=str,
)
def test_when_a_machine_goes(known: dict[str, Any], expected: datetime | None) -> None:
    assert ends_at(NOW, **known) == expected


@pytest.mark.parametrize(
    ("left", "dumps", "survivor", "expected"),
    [
        # with a survivor: only what is safe
        (120, [20], True, True),
        (120, [92], True, True),
        (120, [92.1], True, False),
        (30, [20], True, True),
        (30, [20.1], True, False),
        # the longest of the last ones counts
        (120, [20, 100, 20], True, False),
        # never measured, so there is no figure to trust
        (120, [], True, False),
        # without a survivor: whatever may end in time
        (120, [92.1], False, True),
        (120, [120], False, True),
        (120, [120.1], False, False),
        (120, [], False, True),
        # no time, or nobody knows
        (0, [1], False, False),
        (0, [], False, False),
        (-5, [], False, False),
        (None, [1], True, False),
        (None, [], False, False),
    ],
)
def test_whether_the_dying_replica_is_checkpointed(
    left: float | None, dumps: list[float], survivor: bool, expected: bool
) -> None:
    assert fits(left, dumps, survivor=survivor)[0] is expected


@pytest.mark.parametrize(
    ("left", "dumps", "words"),
    [
        (118, [20], "118 s are left, and a checkpoint takes 20 s"),
        (118, [], "not known yet"),
        (0, [20], "leaves no time"),
        (None, [20], "nobody says"),
    ],
)
def test_why_is_told(left: float | None, dumps: list[float], words: str) -> None:
    assert words in fits(left, dumps, survivor=True)[1]


@pytest.mark.parametrize(
    ("due", "ahead", "expected"),
    [
        (later(20), 500, later(520)),  # worth it, and for how long once it is late
        (later(20), 20, later(40)),
        (later(20), 19, NOW),  # it takes longer than it gains
        (later(20), 0, NOW),
        (later(20), -60, NOW),
        (ago(5), 10, later(5)),  # overdue
        (ago(15), 10, ago(5)),  # no longer worth it
        (ago(5), 0, NOW),
    ],
)
def test_until_when_the_further_image_is_waited_for(due: datetime, ahead: float, expected: datetime) -> None:
    assert wait_until(NOW, due, ahead) == expected


def test_last_moment_for_a_checkpoint_leaves_its_margin() -> None:
    assert last_moment(later(120), [20, 40]) == later(120 - 55)
    assert last_moment(later(120), []) == later(115)


@pytest.mark.parametrize(
    ("left", "gain", "awaited", "expected"),
    [
        (20, 21, False, True),
        (19, 500, False, False),  # it does not fit
        (30, 20, False, False),  # it takes as long as it saves
        (100, 40, True, False),  # it delays the start
        (100, 41, True, True),
        (-5, 500, False, False),
    ],
)
def test_whether_the_dying_replica_is_checkpointed_once_more(
    left: float, gain: float, awaited: bool, expected: bool
) -> None:
    assert once_more(left, [20, 10], gain, awaited=awaited) is expected
