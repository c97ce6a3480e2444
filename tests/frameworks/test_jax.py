"""The sample for JAX: its processes meet, end at one step after a signal to one of them, and continue as fewer."""

from __future__ import annotations

import pytest

from tests.frameworks.conftest import Starts, program, saved_on_sigterm

SCRIPT = "jax_train.py"
pytestmark = pytest.mark.timeout(900)


async def test_three_are_told_to_end_and_two_continue(gangs: Starts) -> None:
    python = [program("jax"), "-u"]
    three = await gangs.start(python, SCRIPT, 3, STEPS=10**6)
    step = await saved_on_sigterm(three, 1)
    found = await gangs.furthest()
    assert (found.progress, found.passed_over) == (step, [])
    two = await gangs.start(python, SCRIPT, 2, found.path, STEPS=step + 20)
    assert await two[0].line(f"training from step {step}") == f"of {step + 20} with 2 processes"
    assert [await each.end() for each in two] == [0, 0]
    [alone] = await gangs.start(python, SCRIPT, 1, STEPS=step + 20)
    assert await alone.end() == 0
    together = three[0].losses() | two[0].losses()
    assert together == pytest.approx(alone.losses(), rel=1e-3), "sums in another order, otherwise the same"
