"""The training of real machines: the losses that it prints, and those that it prints if nothing happens to it."""

from __future__ import annotations

import asyncio
import re

from sandbox.binaries import Binaries
from sandbox.machines.real.disk import Disks
from tests.e2e.rig import REPOSITORY

LOSS = re.compile(r"step=(\d+)/\d+ loss=(\S+)")


async def undisturbed_losses(executables: Binaries, steps: int) -> dict[int, str]:
    """Compute the loss after each step of an undisturbed training, in all its digits."""
    root = await Disks(executables.kubelet.parent, print).training()
    program = (REPOSITORY / "sandbox/machines/real/train.py").read_bytes()
    process = await asyncio.create_subprocess_exec(
        "chroot", root, "/usr/bin/env", "SANDBOX_STEP_SECONDS=0", f"SANDBOX_STEPS={steps}", "OPENBLAS_NUM_THREADS=1",
        "python3", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate(program)
    assert process.returncode == 0
    return losses(output.decode().splitlines())


def losses(lines: list[str]) -> dict[int, str]:
    """Read step → loss from a log."""
    return {int(found[1]): found[2] for line in lines if (found := LOSS.search(line))}
