"""A training by Hugging Face's Accelerate on several machines, which saves itself at one step when told to end.

accelerate.yaml beside it runs it by torchrun, whose variables Accelerate reads. The first process saves model and
optimizer, and each its random state. Any number of processes can load what another number has saved.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py
import torch
from accelerate import Accelerator

STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"), os.environ.get("LOCAL_RANK", "0"))

ROWS, INPUTS, HIDDEN = 240, 16, 32  # rows of a step in all processes: the global batch stays what it is


def save(accelerator: Accelerator, step: int) -> None:
    """Save and upload the part of this process, in a directory of its own."""
    accelerator.save_state(str(STATE / "saved"))
    outlast.publish_shard(STATE / "saved", step)
    shutil.rmtree(STATE / "saved", ignore_errors=True)


def main() -> int:
    """Train, and return the exit code."""
    stop = outlast.sigterm()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    torch.manual_seed(42)
    layers = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))
    model, optimizer = accelerator.prepare(layers, torch.optim.AdamW(layers.parameters(), lr=0.01))
    saved = STATE / "restored"
    first = outlast.restore_shard(saved, 0, 1)  # as if it were the only one: each process needs model and optimizer
    if first is not None:
        accelerator.load_state(str(saved))
    begin, processes = int(first or 0), accelerator.num_processes
    print(f"training from step {begin} of {STEPS} with {processes} processes", flush=True)
    for step in range(begin + 1, STEPS + 1):
        inputs = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(step))
        mine = inputs.chunk(processes)[accelerator.process_index].to(accelerator.device)
        loss = torch.nn.functional.mse_loss(model(mine), torch.tanh(mine.sum(1, keepdim=True) / 4))
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        print(f"step={step}/{STEPS} loss={float(accelerator.reduce(loss.detach(), 'mean')):.6f}", flush=True)
        leaving = outlast.agreed(stop.is_set())
        if leaving or step % SAVE_EVERY == 0:
            save(accelerator, step)
        if leaving:
            return 143
    print(f"training done after {STEPS} steps", flush=True)
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    sys.exit(main())
