"""The sample for PyTorch, with FSDP2 and distributed checkpoints: by ``env://`` and by torchrun."""

from __future__ import annotations

import pytest

from tests.frameworks.conftest import Starts, program, saved_on_sigterm

SCRIPT = "torch_train.py"
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}
pytestmark = pytest.mark.timeout(1500)


async def test_three_are_told_to_end_and_two_continue(gangs: Starts) -> None:
    python = [program("torch"), "-u"]
    three = await gangs.start(python, SCRIPT, 3, STEPS=10**6, **LOOPBACK)
    step = await saved_on_sigterm(three, 1)
    found = await gangs.furthest()
    assert (found.progress, found.passed_over) == (step, [])
    two = await gangs.start(python, SCRIPT, 2, found.path, STEPS=step + 20, **LOOPBACK)
    assert await two[0].line(f"training from step {step}") == f"of {step + 20} with 2 processes"
    assert [await each.end() for each in two] == [0, 0]
    [alone] = await gangs.start(python, SCRIPT, 1, STEPS=step + 20, **LOOPBACK)
    assert await alone.end() == 0
    together = three[0].losses() | two[0].losses()
    assert together == pytest.approx(alone.losses(), rel=0.05, abs=1e-4), "sums in another order, otherwise the same"


async def test_torchrun_reads_who_is_who_from_its_variables(gangs: Starts) -> None:
    torchrun = [program("torch", "torchrun"), "--max-restarts=0"]
    two = await gangs.start(torchrun, SCRIPT, 2, STEPS=10**6, **LOOPBACK)
    step = await saved_on_sigterm(two, 1, code=1)  # of the agents; their processes end with 143
    found = await gangs.furthest()
    assert (found.progress, found.passed_over) == (step, [])
    again = await gangs.start(torchrun, SCRIPT, 2, found.path, STEPS=step + 5, **LOOPBACK)
    assert await again[0].line(f"training from step {step}") == f"of {step + 5} with 2 processes"
    assert [await each.end() for each in again] == [0, 0]
