"""A training by Hugging Face's Trainer on several machines, which saves itself at one step when it is told to end.

trainer.yaml beside it runs it by torchrun. The first process saves model and optimizer, and each its random state. Any
number of processes can load what another number has saved.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import outlast_checkpoint as outlast  # deploy/training/outlast_checkpoint.py
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

STEPS = int(os.environ.get("STEPS", "1000"))
SAVE_EVERY = int(os.environ.get("SAVE_EVERY", "100"))
STATE = Path(os.environ.get("STATE", "/tmp/state"), os.environ.get("LOCAL_RANK", "0"))

ROWS, INPUTS, HIDDEN = 240, 16, 32  # rows of a step in all processes: the global batch stays what it is


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """A thousand steps' rows, each made of its number. Their order comes from the seed, whatever the processes."""

    def __len__(self) -> int:
        return 1000 * ROWS

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        inputs = torch.randn(INPUTS, generator=torch.Generator().manual_seed(number))
        return {"inputs": inputs, "labels": torch.tanh(inputs.sum(0, keepdim=True) / 4)}


class Model(torch.nn.Module):
    """A model as the Trainer wants it: its output has the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the outputs and their loss."""
        outputs = self.layers(inputs)
        return {"loss": torch.nn.functional.mse_loss(outputs, labels), "outputs": outputs}


class Outlast(TrainerCallback):
    """Saves at a step that all processes agree on, and uploads what each has saved."""

    def __init__(self) -> None:
        self.stop = outlast.sigterm()
        self.leaving = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let all of them save and stop if one of them is told to end."""
        self.leaving = outlast.agreed(self.stop.is_set())
        if self.leaving:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Upload the part of this process. Each process has an ``output_dir`` of its own."""
        outlast.publish_shard(Path(args.output_dir, f"checkpoint-{state.global_step}"), state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Write what Outlast reads the progress from."""
        if logs and "loss" in logs:
            print(f"step={state.global_step}/{STEPS} loss={logs['loss']}", flush=True)


def main() -> int:
    """Train, and return the exit code."""
    processes, saved = int(os.environ["WORLD_SIZE"]), STATE / "restored"
    first = outlast.restore_shard(saved, 0, 1)  # as if it were the only one: each process needs model and optimizer
    arguments = TrainingArguments(
        output_dir=str(STATE / "saved"),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS // processes,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=SAVE_EVERY,
        save_total_limit=1,
        seed=42,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )
    callback = Outlast()
    set_seed(arguments.seed)  # for the model, which is made before the Trainer
    trainer = Trainer(Model(), arguments, train_dataset=Rows(), callbacks=[callback])
    print(f"training from step {int(first or 0)} of {STEPS} with {processes} processes", flush=True)
    trainer.train(resume_from_checkpoint=str(saved) if first is not None else None)
    if callback.leaving:
        return 143
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
