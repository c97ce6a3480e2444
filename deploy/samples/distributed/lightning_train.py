"""A training by Lightning on several machines, which saves itself at one step when it is told to end.

lightning.yaml beside it runs it by torchrun, whose variables Lightning reads. The first process saves everything, and
the others nothing. Any number of processes can load what another number has saved.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import lightning
import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py
import torch

STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"), os.environ.get("LOCAL_RANK", "0"))
PROCESSES, HERE = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

ROWS, INPUTS, HIDDEN = 240, 16, 32  # rows of a step in all processes: the global batch stays what it is


class Model(lightning.LightningModule):
    """The model, whose rows are made of the number of the step: so it does not matter where a data loader was."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))

    def training_step(self, _: Any) -> torch.Tensor:
        """Compute the loss of this process's rows."""
        inputs = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(self.global_step + 1))
        mine = inputs.chunk(PROCESSES)[self.global_rank].to(self.device)
        return torch.nn.functional.mse_loss(self.layers(mine), torch.tanh(mine.sum(1, keepdim=True) / 4))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Outlast(lightning.Callback):
    """Saves at a step that all processes agree on, and uploads what each has saved."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.leaving = False

    def on_train_start(self, trainer: lightning.Trainer, model: lightning.LightningModule) -> None:
        """Replace Lightning's own handler of SIGTERM, which ends the training without a checkpoint."""
        self.stop = outlast.sigterm()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, model: lightning.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Save if it is time to, or if one of the processes is told to end."""
        step, loss = trainer.global_step, trainer.strategy.reduce(outputs["loss"].detach(), reduce_op="mean")
        print(f"step={step}/{STEPS} loss={float(loss):.6f}", flush=True)
        self.leaving = outlast.agreed(self.stop.is_set())
        if self.leaving or step % SAVE_EVERY == 0:
            (STATE / "saved").mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(STATE / "saved" / "all.ckpt")  # all take part, and the first one writes
            outlast.publish_shard(STATE / "saved", step)
            shutil.rmtree(STATE / "saved")
        trainer.should_stop = self.leaving


def main() -> int:
    """Train, and return the exit code."""
    callback = Outlast()
    lightning.seed_everything(42, verbose=False)
    saved = STATE / "restored"
    first = outlast.restore_shard(saved, 0, 1)  # as if it were the only one: each process needs what the first saved
    trainer = lightning.Trainer(
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        devices=HERE,
        num_nodes=PROCESSES // HERE,
        strategy="ddp",
        max_steps=STEPS,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    print(f"training from step {int(first or 0)} of {STEPS} with {PROCESSES} processes", flush=True)
    every = torch.utils.data.DataLoader(range(STEPS * PROCESSES))  # type: ignore[arg-type]
    trainer.fit(Model(), every, ckpt_path=saved / "all.ckpt" if first is not None else None)
    if callback.leaving:
        return 143
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
