"""A training with PyTorch on several machines, sharded by FSDP2 and saved by torch.distributed.checkpoint.

torchrun.yaml beside it runs it by torchrun. A process for each machine may also run as ``python torch_train.py``,
because ``init_process_group`` reads the variables that Outlast sets. Any number of processes can load what
another number has saved.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"), os.environ.get("LOCAL_RANK", "0"))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

ROWS, INPUTS, HIDDEN = 240, 16, 32  # rows of a step in all processes: the global batch stays what it is


class Training:
    """The model with its optimizer, of which each process has a part."""

    def __init__(self) -> None:
        torch.manual_seed(42)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1)
        ).to(DEVICE)
        fully_shard(self.model, mesh=init_device_mesh(DEVICE, (dist.get_world_size(),)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)

    def step(self, number: int) -> float:
        """Take one step with this process's rows of the batch, and return the loss of all before it."""
        inputs = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(number))
        mine = inputs.chunk(dist.get_world_size())[dist.get_rank()].to(DEVICE)
        wanted = torch.tanh(mine.sum(1, keepdim=True) / 4)
        loss = torch.nn.functional.mse_loss(self.model(mine), wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        mean = loss.detach()
        dist.all_reduce(mean)
        return float(mean) / dist.get_world_size()

    def save(self, number: int) -> None:
        """Save the part of this process. The first one also writes what says where everything is."""
        dcp.save(self._state(), checkpoint_id=STATE)
        outlast.publish_shard(STATE, number)

    def restore(self) -> int:
        """Load what was saved last, by as many processes as there were then, and return its step."""
        step = outlast.restore_shard(STATE, 0, 1)  # as if it were the only one: each process may need any file
        if step is None:
            return 0
        state = self._state()
        dcp.load(state, checkpoint_id=STATE)
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return int(step)

    def _state(self) -> dict[str, object]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}


def main() -> int:
    """Train, and return the exit code."""
    if DEVICE == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo")
    stop = outlast.sigterm()
    training = Training()
    first = training.restore()
    print(f"training from step {first} of {STEPS} with {dist.get_world_size()} processes", flush=True)
    for step in range(first + 1, STEPS + 1):
        print(f"step={step}/{STEPS} loss={training.step(step):.6f}", flush=True)
        leaving = outlast.agreed(stop.is_set())
        if leaving or step % SAVE_EVERY == 0:
            training.save(step)
        if leaving:
            return 143
    print(f"training done after {STEPS} steps", flush=True)
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
