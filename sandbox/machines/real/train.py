"""A training that really learns, and can be checked bit for bit: a small network, its data and noise from one seed.

Its step and its weights live in memory alone. What it says is what the light training says (`training.py` of light
machines), so that the same eyes can follow both; the loss is printed with all of its digits.

| variable | meaning | default |
|---|---|---|
| `SANDBOX_STEPS` | steps until it is done and exits 0 | 60 |
| `SANDBOX_STEP_SECONDS` | real seconds that a step takes at least | 0.1 |
| `SANDBOX_SEED` | of weights, data and noise | 42 |
| `SANDBOX_ON_SIGTERM` | `exit143`, `exit0` or `ignore` | `exit143` |
| `SANDBOX_FAIL_AT_STEP` | step after which it fails with `SANDBOX_EXIT_CODE` (1) | never |
| `SANDBOX_BALLAST_MB` | memory that it holds beside what it needs | 0 |
"""

import os
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
IDENTITY = Path("/etc/outlast")
LEARNING_RATE = 0.05
BATCH, INPUTS, HIDDEN = 64, 16, 32

told_to_stop = False


def stop(*_: object) -> None:
    """Remember SIGTERM until the step is done."""
    global told_to_stop
    told_to_stop = True


def identity() -> str:
    """Who this replica is now; after a restore that is somebody else than before."""
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
        """Learn from one batch; the loss before that."""
        inputs = self.random.normal(0, 1, (BATCH, INPUTS))
        wanted = np.tanh(inputs @ self.target) + self.random.normal(0, 0.05, (BATCH, 1))
        hidden = np.tanh(inputs @ self.first)
        error = hidden @ self.second - wanted
        back = (error @ self.second.T) * (1 - hidden**2)
        self.second -= LEARNING_RATE * hidden.T @ error / BATCH
        self.first -= LEARNING_RATE * inputs.T @ back / BATCH
        return float((error**2).mean())


def main() -> int:
    """Train; returns the exit code."""
    signal.signal(signal.SIGTERM, stop)
    model, known = Model(SEED), ""
    print(f"training from step 0 of {STEPS} on host {socket.gethostname()}", flush=True)
    for step in range(1, STEPS + 1):
        if (now := identity()) != known:
            known = now
            print(f"identity {known}", flush=True)
        loss = model.step()
        print(f"step={step}/{STEPS} loss={loss!r}", flush=True)
        if step == FAIL_AT_STEP:
            return int(os.environ.get("SANDBOX_EXIT_CODE", "1"))
        time.sleep(STEP_SECONDS)
        if told_to_stop and ON_SIGTERM is not None:
            print(f"SIGTERM at step {step}", flush=True)
            return ON_SIGTERM
    print(f"training done after {STEPS} steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
