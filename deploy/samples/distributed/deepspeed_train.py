"""A training by DeepSpeed's ZeRO on several machines, which saves itself at one step when it is told to end.

deepspeed.yaml beside it runs it by torchrun, whose variables DeepSpeed reads. Each process saves its part. Only as many
machines as have saved a checkpoint can load it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import deepspeed
import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py
import torch
import torch.distributed as dist

STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"), os.environ.get("LOCAL_RANK", "0"))

ROWS, INPUTS, HIDDEN = 240, 16, 32  # rows of a step in all processes


def save(engine: deepspeed.DeepSpeedEngine, step: int) -> None:
    """Save and upload the part of this process, in a directory of its own."""
    (STATE / "saved").mkdir(parents=True, exist_ok=True)
    engine.save_checkpoint(str(STATE / "saved"), tag="all")
    machines = dist.get_world_size() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    outlast.publish_shard(STATE / "saved", step, fits=[machines])
    shutil.rmtree(STATE / "saved")


def main() -> int:
    """Train, and return the exit code."""
    stop = outlast.sigterm()
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo")
    processes, rank = dist.get_world_size(), dist.get_rank()
    torch.manual_seed(42)
    layers = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))
    settings = {
        "train_micro_batch_size_per_gpu": ROWS // processes,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    optimizer = torch.optim.AdamW(layers.parameters(), lr=0.01)
    engine, *_ = deepspeed.initialize(model=layers, optimizer=optimizer, config=settings)
    saved = STATE / "restored"
    first = outlast.restore_shard(saved, 0, 1)  # as if it were the only one: each process needs the model, too
    if first is not None:
        engine.load_checkpoint(str(saved), tag="all")
    begin = int(first or 0)
    print(f"training from step {begin} of {STEPS} with {processes} processes", flush=True)
    for step in range(begin + 1, STEPS + 1):
        inputs = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(step))
        mine = inputs.chunk(processes)[rank].to(engine.device)
        loss = torch.nn.functional.mse_loss(engine(mine), torch.tanh(mine.sum(1, keepdim=True) / 4))
        engine.backward(loss)
        engine.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        print(f"step={step}/{STEPS} loss={float(mean) / processes:.6f}", flush=True)
        leaving = outlast.agreed(stop.is_set())
        if leaving or step % SAVE_EVERY == 0:
            save(engine, step)
        if leaving:
            return 143
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
