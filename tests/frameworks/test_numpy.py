"""The sample for NumPy and sockets: its loss is the same in every digit, however many processes there are."""

from __future__ import annotations

import pytest

from tests.frameworks.conftest import Starts, program, saved_on_sigterm

SCRIPT = "allreduce.py"
pytestmark = pytest.mark.timeout(900)


async def test_three_are_told_to_end_and_two_continue_and_learn_the_same(gangs: Starts) -> None:
    python = [program("jax"), "-u"]  # which brings NumPy
    threads = {"OPENBLAS_NUM_THREADS": 1}
    three = await gangs.start(python, SCRIPT, 3, STEPS=10**6, **threads)
    step = await saved_on_sigterm(three, 2)
    found = await gangs.furthest()
    assert (found.progress, found.passed_over) == (step, [])
    two = await gangs.start(python, SCRIPT, 2, found.path, STEPS=step + 20, SAVE_EVERY=10, **threads)
    assert [await each.end() for each in two] == [0, 0]
    again = await gangs.start(python, SCRIPT, 2, (await gangs.furthest()).path, STEPS=step + 40, **threads)
    assert [await each.end() for each in again] == [0, 0]
    [alone] = await gangs.start(python, SCRIPT, 1, STEPS=step + 40, **threads)
    assert await alone.end() == 0
    for gang in (three, two, again):
        assert all(each.losses().items() <= alone.losses().items() for each in gang)
    assert alone.losses().keys() == three[0].losses().keys() | two[0].losses().keys() | again[0].losses().keys()
