"""Reading a training's progress from its log."""

import time

import pytest

from activities.replicas.pods import LINE, PROGRESS_LINES, compile_pattern, last_number

STEP = r"step=(\S+)"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("step=1\nstep=2\n", 2),
        ("step=1 then step=3\nbye\n", 3),
        ("step=1.5e3\n", 1500),
        ("10% step=1\r20% step=2\r", 2),
        ("step=7\nstep=nan\nstep=soon\n", 7),
        ("nothing\n", None),
        ("", None),
    ],
)
def test_last_number_that_the_pattern_matched(text: str, number: float | None) -> None:
    assert last_number(compile_pattern(STEP), text) == number


def test_group_that_took_no_part_is_no_number() -> None:
    assert last_number(compile_pattern(r"step=(\d+)?"), "step=4\nstep=\n") == 4


def test_no_expression_keeps_the_worker_busy() -> None:
    """An expression that tries each way to part the line would not end before the universe does."""
    lines = "\n".join(["a" * LINE] * PROGRESS_LINES)
    began = time.process_time()
    assert last_number(compile_pattern(r"(?:a+)+=(\d+)"), lines) is None
    assert time.process_time() - began < 5


def test_end_of_an_endless_line_is_looked_at() -> None:
    assert last_number(compile_pattern(STEP), "x" * 1_000_000 + " step=5") == 5


@pytest.mark.parametrize("pattern", ["step", "(a)(b)", "step=(", r"(?<=step=)(\d+)"])
def test_pattern_that_matches_no_one_number_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="logPattern"):
        compile_pattern(pattern)
