"""A training that really learns, and can be checked bit for bit: a small network, its data and noise from one seed.

Its step and its weights live in memory alone. What it says is what the light training says (``training.py`` of light
machines), so that the same eyes can follow both; the loss is printed with all of its digits.

| variable | meaning | default |
|---|---|---|
| ``SANDBOX_STEPS`` | steps until it is done and exits 0 | 60 |
| ``SANDBOX_STEP_SECONDS`` | real seconds that a step takes at least | 0.1 |
| ``SANDBOX_SEED`` | of weights, data and noise | 42 |
| ``SANDBOX_ON_SIGTERM`` | ``exit143``, ``exit0`` or ``ignore`` | ``exit143`` |
| ``SANDBOX_FAIL_AT_STEP`` | step after which it fails with ``SANDBOX_EXIT_CODE`` (1) | never |
| ``SANDBOX_BALLAST_MB`` | memory that it holds beside what it needs | 0 |
| ``SANDBOX_SAVE_EVERY`` | steps after which it saves itself into its checkpoint storage, and at SIGTERM | never |
| ``SANDBOX_OUTPUT`` | path of a file that it writes in its own file system when it is done | none |

Once there is a file ``/hurry`` it takes no more time than it needs: ``kubectl exec POD -- touch /hurry``.
"""

import os
import pickle
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

STEPS = int(os.environ.get("SANDBOX_STEPS", "60"))
STEP_SECONDS = float(os.environ.get("SANDBOX_STEP_SECONDS", "0.1"))
SEED = int(os.environ.get("SANDBOX_SEED", "42"))
ON_SIGTERM = {"exit143": 143, "exit0": 0, "ignore": None}[os.environ.get("SANDBOX_ON_SIGTERM", "exit143")]
FAIL_AT_STEP = int(os.environ.get("SANDBOX_FAIL_AT_STEP") or 0)
BALLAST = np.random.default_rng(0).integers(0, 256, int(os.environ.get("SANDBOX_BALLAST_MB", "0")) << 20, np.uint8)
SAVE_EVERY = int(os.environ.get("SANDBOX_SAVE_EVERY", "0"))
OUTPUT = os.environ.get("SANDBOX_OUTPUT", "")
IDENTITY = Path("/etc/outlast")
SCRATCH = Path("/scratch")
HURRY = Path("/hurry")
LEARNING_RATE = 0.05
BATCH, INPUTS, HIDDEN = 64, 16, 32

told_to_stop = False


def stop(*_: object) -> None:
    """Remember SIGTERM until the step is done."""
    global told_to_stop
    told_to_stop = True


def identity() -> str:
    """Return who this replica is now; after a restore that may have changed."""
    files = sorted(file for file in IDENTITY.glob("*") if file.is_file()) if IDENTITY.is_dir() else []
    return " ".join(f"{file.name}={file.read_text().strip()}" for file in files) or "unknown"


class Model:
    """Two layers that learn a function of their inputs by gradient descent."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.first = self.random.normal(0, 0.3, (INPUTS, HIDDEN))
        self.second = self.random.normal(0, 0.3, (HIDDEN, 1))
        self.target = self.random.normal(0, 1, (INPUTS, 1))

    def step(self) -> float:
        """Learn from one batch, and return the loss before that."""
        inputs = self.random.normal(0, 1, (BATCH, INPUTS))
        wanted = np.tanh(inputs @ self.target) + self.random.normal(0, 0.05, (BATCH, 1))
        hidden = np.tanh(inputs @ self.first)
        error = hidden @ self.second - wanted
        back = (error @ self.second.T) * (1 - hidden**2)
        self.second -= LEARNING_RATE * hidden.T @ error / BATCH
        self.first -= LEARNING_RATE * inputs.T @ back / BATCH
        return float((error**2).mean())


class Saves:
    """Its checkpoints in the bucket that ``/etc/outlast`` names, through the module that every training may use."""

    def __init__(self) -> None:
        import outlast_checkpoint  # it is in the image, but not where an undisturbed training runs for comparison

        self._bucket = outlast_checkpoint

    def restore(self) -> tuple[Model, int]:
        """Return the model and the step to continue from; a new model if there is nothing yet."""
        step = self._bucket.restore(SCRATCH)
        return (Model(SEED), 0) if step is None else (pickle.loads((SCRATCH / "model").read_bytes()), int(step))

    def save(self, model: Model, step: int) -> None:
        """Publish a checkpoint of the model."""
        SCRATCH.mkdir(exist_ok=True)
        (SCRATCH / "model").write_bytes(pickle.dumps(model))
        print(f"saved step {step} as {self._bucket.publish(SCRATCH, step)}", flush=True)


def main() -> int:
    """Train, and return the exit code."""
    signal.signal(signal.SIGTERM, stop)
    saves = Saves() if SAVE_EVERY else None
    (model, first), known = saves.restore() if saves else (Model(SEED), 0), ""
    print(f"training from step {first} of {STEPS} on host {socket.gethostname()}", flush=True)
    for step in range(first + 1, STEPS + 1):
        if (now := identity()) != known:
            known = now
            print(f"identity {known}", flush=True)
        loss = model.step()
        print(f"step={step}/{STEPS} loss={loss!r}", flush=True)
        if step == FAIL_AT_STEP:
            return int(os.environ.get("SANDBOX_EXIT_CODE", "1"))
        time.sleep(0 if HURRY.exists() else STEP_SECONDS)
        if saves and (told_to_stop or step % SAVE_EVERY == 0):
            saves.save(model, step)
        if told_to_stop and ON_SIGTERM is not None:
            print(f"SIGTERM at step {step}", flush=True)
            return ON_SIGTERM
    if OUTPUT:
        Path(OUTPUT).parent.mkdir(parents=True, exist_ok=True)
        Path(OUTPUT).write_text(f"model after {STEPS} steps\n")
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
