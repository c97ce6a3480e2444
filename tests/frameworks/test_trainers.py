"""The samples for Accelerate, DeepSpeed, Hugging Face's Trainer and Lightning, each by torchrun on CPUs."""

from __future__ import annotations

import pytest

from tests.frameworks.conftest import REPOSITORY, Member, Starts, program, saved_on_sigterm

ON_CPUS = {
    "GLOO_SOCKET_IFNAME": "lo",
    "DS_ACCELERATOR": "cpu",
    "TORCH_EXTENSIONS_DIR": REPOSITORY / ".venv/trainers/extensions",  # DeepSpeed compiles for minutes, once
    "LOCAL_SIZE": 1,  # each member is a machine: otherwise DeepSpeed reduces by shared memory, and hangs on two CPUs
    "HF_HUB_OFFLINE": 1,
}
# ZeRO's checkpoints fit only the number of machines that has saved them.
ANY_SIZE = ["accelerate_train.py", "lightning_train.py", "trainer_train.py"]
pytestmark = pytest.mark.timeout(1500)


async def begun(gangs: Starts, script: str, size: int, restored_from: str = "", **steps: int) -> list[Member]:
    torchrun = [program("trainers", "torchrun"), "--max-restarts=0"]
    return await gangs.start(torchrun, script, size, restored_from, **steps, **ON_CPUS)


@pytest.mark.parametrize("script", [*ANY_SIZE, "deepspeed_train.py"])
async def test_told_to_end_all_save_at_one_step_and_continue_from_there(gangs: Starts, script: str) -> None:
    two = await begun(gangs, script, 2, STEPS=10**5)
    step = await saved_on_sigterm(two, 1, code=1)  # of the agents; their processes end with 143
    size = 1 if script in ANY_SIZE else 2
    found = await gangs.furthest(size)
    assert (found.progress, found.passed_over) == (step, [])
    after = await begun(gangs, script, size, found.path, STEPS=step + 20)
    assert await after[0].line(f"training from step {step}") == f"of {step + 20} with {size} processes"
    assert [await each.end() for each in after] == [0] * size
    alone = await begun(gangs, script, 2, STEPS=step + 20)
    assert [await each.end() for each in alone] == [0, 0]
    together = two[0].losses() | after[0].losses()
    assert together == pytest.approx(alone[0].losses(), rel=0.05, abs=1e-4), "the same but for the order of sums"
    assert set(after[0].losses()) == set(range(step + 1, step + 21)), "no step is lost, and none is taken twice"
